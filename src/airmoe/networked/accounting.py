"""What the networked mixture costs on each device, beside the same mixture centralised on one device.

A client of the networked mixture stores and computes the feature extractor, the gate and its own expert. The
device of the centralised mixture stores and computes the extractor, the gate and all experts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from airmoe.checks import number_within
from airmoe.errors import InvalidInputError
from airmoe.files import AnyPath, as_path
from airmoe.manifest import read_manifest
from airmoe.mesh.model_memory import ProcessMemory, serving_memory
from airmoe.networked.config import load_config
from airmoe.networked.device_work import (
    answer_flops,
    central_step,
    client_steps,
    counted_flops,
    device_model,
)
from airmoe.nn import MixtureOfExperts
from airmoe.runfolder import EXTRACTOR, GATE, client_folders, expert_file

if TYPE_CHECKING:
    from airmoe.report.table import Cell, Table

VALUE_BYTES = 4
"""Of a parameter, float32."""


@dataclass(frozen=True)
class Device:
    """What one device stores, computes and needs of memory.

    Attributes:
        parameters: values of all weights on the device, trained or fitted to sums; the mean and deviation
            by which a gate standardises features are among them.
        weight_bytes: 4 bytes for each of them.
        file_bytes: the ONNX files as they lie on its disk; more than the weights by the graphs.
        answer_flops: for one image that it asks about, on this device: extractor, gate, and the own expert
            as often as it is asked. It is 2 per multiply-add; see `airmoe.networked.device_work`.
        elsewhere_flops: for the same image, on other devices. A client does as much for others, on average
            over the clients.
        step_flops: of one training step, by stage: a batch of the stage's size, forward and backward.
        serving: memory of a fresh process that loads the ONNX files and answers one image; None where it
            cannot be measured.
    """

    parameters: int
    weight_bytes: int
    file_bytes: int
    answer_flops: float
    elsewhere_flops: float
    step_flops: Mapping[str, int]
    serving: ProcessMemory | None


@dataclass(frozen=True)
class Devices:
    """A client of the networked mixture, and the device that holds all of the mixture."""

    client: Device
    central: Device


def device_costs(run_folder: AnyPath, own_share: float | None = None) -> Devices:
    """Return what a finished networked run costs on each device, under top-1 routing.

    Args:
        run_folder: of a networked run.
        own_share: how often the own expert answers an image that the client asks about, 0 to 1: the local
            share. Left out, 1 / experts: that of a gate which is blind to who asks, over all classes.

    Raises:
        RunFolderError: no finished run.
        InvalidInputError: the run is of another method, or a share out of range.
        subprocess.SubprocessError: a file of the run is no network.
    """
    run = as_path(run_folder)
    clients = client_folders(run)
    config, asked = load_config(run / "config.toml"), read_manifest(clients[0]).asks
    if asked is None:
        raise InvalidInputError("run_folder", str(run), "a networked run, whose clients ask")
    shape = asked.input.channels, asked.input.height, asked.input.width
    classes = len(read_manifest(clients[0]).classes)
    experts = config.data.clients
    share = number_within("own_share", 1 / experts if own_share is None else own_share, 0.0, 1.0)

    shared = [clients[0] / EXTRACTOR, clients[0] / GATE]
    every_expert = [client / expert_file(number) for number, client in enumerate(clients)]
    client, central = device_model(config, shape, classes, holds=1), device_model(config, shape, classes)
    flops = answer_flops(client, shape)
    asking = flops["extractor"] + flops["gate"]
    steps = client_steps(client, config, shape, classes)
    return Devices(
        client=_device(
            client,
            [*shared, every_expert[0]],
            answer_flops=asking + share * flops["expert"],
            elsewhere_flops=(1 - share) * flops["expert"],
            step_flops={stage: counted_flops(step) for stage, step in steps.items()},
        ),
        central=_device(
            central,
            [*shared, *every_expert],
            answer_flops=asking + flops["expert"],
            elsewhere_flops=0,
            step_flops={"central": counted_flops(central_step(central, config, shape))},
        ),
    )


def _device(
    model: MixtureOfExperts,
    files: Sequence[Path],
    *,
    answer_flops: float,
    elsewhere_flops: float,
    step_flops: Mapping[str, int],
) -> Device:
    parameters = _parameters(model)
    stored = sum(path.stat().st_size for path in files)
    return Device(
        parameters=parameters,
        weight_bytes=VALUE_BYTES * parameters,
        file_bytes=stored,
        answer_flops=answer_flops,
        elsewhere_flops=elsewhere_flops,
        step_flops=step_flops,
        serving=serving_memory(files),
    )


def _parameters(model: nn.Module) -> int:
    return sum(value.numel() for value in model.state_dict().values())


def devices_table(
    devices: Devices, training: tuple[ProcessMemory | None, ProcessMemory | None] = (None, None)
) -> Table:
    """Return the table of both devices.

    Args:
        devices: what they cost.
        training: memory of a client and of the centralised mixture while they train, where it was measured:
            see `airmoe.networked.training_memory`.
    """
    client, central = devices.client, devices.central
    rows: list[list[Cell]] = [
        ["parameters, thousands", client.parameters / 1e3, central.parameters / 1e3],
        ["weights, kB", client.weight_bytes / 1e3, central.weight_bytes / 1e3],
        ["ONNX files, kB", client.file_bytes / 1e3, central.file_bytes / 1e3],
        ["an image, here, MFLOP", client.answer_flops / 1e6, central.answer_flops / 1e6],
        ["an image, elsewhere, MFLOP", client.elsewhere_flops / 1e6, central.elsewhere_flops / 1e6],
    ]
    for stage, flops in client.step_flops.items():
        rows.append([f"a step of {stage}, MFLOP", flops / 1e6, ""])
    rows.append(["a step of the whole mixture, MFLOP", "", central.step_flops["central"] / 1e6])
    rows += _memory_rows("answering", client.serving, central.serving)
    rows += _memory_rows("training", *training)
    from airmoe.report.table import Table  # it brings Matplotlib along, which training does without

    return Table(
        "devices",
        "What a device stores and computes",
        ["per device", "networked client", "centralised MoE"],
        rows,
        note="Two FLOP for each multiply-add. Memory is that of a fresh process with its libraries.",
    )


def _memory_rows(doing: str, client: ProcessMemory | None, central: ProcessMemory | None) -> list[list[Cell]]:
    if client is None or central is None:
        return []
    beyond = [(each.peak_bytes - each.libraries_bytes) / 1e6 for each in (client, central)]
    return [
        [f"peak memory, {doing}, MB", client.peak_bytes / 1e6, central.peak_bytes / 1e6],
        [f"of it beyond the libraries, {doing}, MB", *beyond],
    ]
