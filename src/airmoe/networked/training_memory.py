"""Peak memory of a device that trains; measured in a process of its own.

python -m airmoe.networked.training_memory WHAT SETTINGS

WHAT is "client", which takes a step of each stage, or "central", which takes a step of the whole mixture.
SETTINGS is JSON: config, the shape of an image, and the number of classes.
"""

import json
import sys
from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from airmoe.mesh.model_memory import ProcessMemory, measured_apart, resident_bytes, tell_memory
from airmoe.networked.config import NetworkedConfig
from airmoe.networked.device_work import central_step, client_steps, device_model


def training_memory(
    what: Literal["client", "central"], config: NetworkedConfig, image_shape: Sequence[int], classes: int
) -> ProcessMemory | None:
    """Return the memory of a process that trains as a client does, or the whole mixture in one place.

    It has one thread, a batch of each stage, and none of the data; None where there is no /proc.

    Args:
        what: which of the two.
        config: of the run.
        image_shape: (channels, height, width).
        classes: how many.

    Raises:
        subprocess.SubprocessError: the process fails.
    """
    settings = json.dumps({"config": config.model_dump(), "shape": list(image_shape), "classes": classes})
    return measured_apart("airmoe.networked.training_memory", what, settings)


def _train_once(what: str, settings: str) -> None:
    told = json.loads(settings)
    config = NetworkedConfig.model_validate(told["config"])
    shape, classes = told["shape"], told["classes"]
    torch.set_num_threads(1)
    _load_all_libraries()
    libraries_bytes = resident_bytes("VmRSS")
    steps = (
        client_steps(device_model(config, shape, classes, holds=1), config, shape, classes)
        if what == "client"
        else {"central": central_step(device_model(config, shape, classes), config, shape)}
    )
    for step in steps.values():
        step()
    tell_memory(libraries_bytes)


def _load_all_libraries() -> None:
    """Train something tiny: PyTorch loads a part of itself, and oneDNN, at the first step."""
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Flatten(), nn.Linear(4, 1))
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-6, momentum=0.9, foreach=True)
    network(torch.zeros(1, 1, 2, 2)).sum().backward()
    optimiser.step()


if __name__ == "__main__":
    _train_once(*sys.argv[1:])
