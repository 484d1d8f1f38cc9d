"""airmoe: train and run a mixture of experts whose experts live on devices joined by a wireless network."""

import os

__version__ = "0.1.0"

# What airmoe builds on reads these when it is loaded, so they are set before anything of airmoe can load it.
os.environ |= {
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "DISABLE_SAFETENSORS_CONVERSION": "1",  # by a web service that transformers asks
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
}
