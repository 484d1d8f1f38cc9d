"""What every training writes and reads: settings, checkpoints, run folders, exported networks.

`load_run` gives a finished run as an object, and `compare` evaluates policies on it.
"""

from airmoe.runs.checkpoint import Checkpoint
from airmoe.runs.comparison import Comparison, Measured, compare
from airmoe.runs.export import export_run
from airmoe.runs.load import Run, load_run
from airmoe.runs.onnx_files import export_onnx
from airmoe.runs.settings import dump_config, parse_section

__all__ = [
    "Checkpoint",
    "Comparison",
    "Measured",
    "Run",
    "compare",
    "dump_config",
    "export_onnx",
    "export_run",
    "load_run",
    "parse_section",
]
