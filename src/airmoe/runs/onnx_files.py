"""Networks as ONNX files, checked against PyTorch; nothing of the machine that wrote them is in them.

Shape suffixes: T items, E experts.
"""

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from airmoe import __version__
from airmoe.checks import refuse_type
from airmoe.errors import InvalidInputError, RunFolderError
from airmoe.files import AnyPath, as_path, replaced_file
from airmoe.manifest import INPUT, SNR_INPUT
from airmoe.nn import Pooling, pool
from airmoe.onnx_runtime import onnx_session

TOLERANCE = 1e-4
"""Largest difference between PyTorch and ONNX Runtime that an export may show."""

INT64 = onnx.TensorProto.INT64
"""The type of shapes and axes in a graph."""


class _Scores(nn.Module):
    """A gate as the mesh runs it: payloads and, if it sees them, SNRs to scores."""

    def __init__(self, gate: nn.Module, pooling: Pooling) -> None:
        super().__init__()
        self.gate, self.pooling = gate, pooling

    def forward(self, payload_T: Tensor, snr_db_TE: Tensor | None = None) -> Tensor:
        return self.gate(pool(payload_T, self.pooling), snr_db_TE).scores_TE  # type: ignore[no-any-return]


def export_onnx(
    module: nn.Module, inputs: Mapping[str, Tensor], path: AnyPath, *, like: AnyPath | None = None
) -> None:
    """Write a module as ONNX with a free batch axis, and check its outputs on these inputs.

    Equal modules give equal bytes on any machine with the same versions of PyTorch and airmoe.

    Args:
        module: takes the inputs in their order, and gives one tensor.
        inputs: name and example of each, first axis T.
        path: the file to write.
        like: the file of a network of the same form. Where its graph holds the weights as they are, the
            graph is written again with this module's weights, in a hundredth of the time.

    Raises:
        InvalidInputError: the module is none, or does not take these inputs.
        RunFolderError: ONNX Runtime and PyTorch differ by more than `TOLERANCE`, or the network takes only
            this number of items. Nothing is written then.
    """
    refuse_type("module", module, nn.Module)
    for name, example in inputs.items():
        refuse_type(f"inputs: {name}", example, Tensor)
    module, path = module.eval(), as_path(path)
    expected = _outputs(module, inputs)
    network = None if like is None else _written_like(as_path(like), module)
    if network is None or _difference(expected, inputs, network, path.name) > TOLERANCE:
        network = _traced(module, inputs)
    difference = _difference(expected, inputs, network, path.name)
    if not difference <= TOLERANCE:
        raise RunFolderError(
            f"{path.name}: ONNX and PyTorch outputs differ by {difference}; expected at most {TOLERANCE}"
        )
    with replaced_file(path) as temporary:
        temporary.write_bytes(network)


def _traced(module: nn.Module, inputs: Mapping[str, Tensor]) -> bytes:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it lists every torchvision operator it lacks
    items = torch.export.Dim("T")
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        program = torch.onnx.export(
            module,
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=["output"],
            dynamic_shapes=tuple({0: items} for _ in inputs),
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # it never is with dynamo=True
    network = program.model_proto
    _clear_notes(network)
    network.producer_name, network.producer_version = "airmoe", __version__
    return bytes(network.SerializeToString(deterministic=True))


def _clear_notes(message: Any) -> None:
    """Remove what the exporter notes in a protobuf message, at any depth: paths, lines of source, modules."""
    for field, value in message.ListFields():
        if field.name in ("doc_string", "metadata_props"):
            message.ClearField(field.name)
        elif field.message_type is not None:
            for inner in [value] if hasattr(value, "ListFields") else value:
                _clear_notes(inner)


def _written_like(like: Path, module: nn.Module) -> bytes | None:
    """Return a graph with a module's weights; None if it holds others, or values made from them."""
    network, weights = onnx.load(like), module.state_dict()
    held = {values.name: values for values in network.graph.initializer}
    shapes = {name: list(values.dims) for name, values in held.items() if values.data_type != INT64}
    if shapes != {name: list(weight.shape) for name, weight in weights.items()}:
        return None
    for name, weight in weights.items():
        held[name].CopyFrom(onnx.numpy_helper.from_array(weight.numpy(force=True), name))
    return bytes(network.SerializeToString(deterministic=True))


def _outputs(module: nn.Module, inputs: Mapping[str, Tensor]) -> NDArray[Any]:
    try:
        with torch.no_grad():
            return module(*inputs.values()).numpy()  # type: ignore[no-any-return]
    except RuntimeError as error:  # so PyTorch refuses a shape
        shapes = ", ".join(f"{name} {tuple(example.shape)}" for name, example in inputs.items())
        takes = f"those that the module takes ({error})"
        raise InvalidInputError("shapes of inputs", shapes, takes) from error


def _difference(expected: NDArray[Any], inputs: Mapping[str, Tensor], network: bytes, name: str) -> float:
    """Return the largest difference of a network's outputs from PyTorch's; refuse a fixed batch axis."""
    session = onnx_session(network)
    if fixed := [each.name for each in session.get_inputs() if isinstance(each.shape[0], int)]:
        raise RunFolderError(
            f"{name}: the number of items of {', '.join(fixed)} came out fixed; expected a free one"
        )
    (actual,) = session.run(None, {name: example.numpy() for name, example in inputs.items()})
    return float(np.abs(actual - expected).max())


def export_gate(
    gate: nn.Module,
    payload_T: Tensor,
    experts: int,
    path: Path,
    pooling: Pooling = "vector",
    *,
    sees_snr: bool | None = None,
    like: AnyPath | None = None,
) -> None:
    """Write a gate as the mesh runs it: payloads of any shape and, if it sees them, SNRs to scores (T, E).

    Args:
        gate: says by a bool ``sees_snr`` whether it looks at the links.
        payload_T: a few real payloads, for the check.
        experts: E.
        path: the file to write.
        pooling: what a payload is.
        sees_snr: False for a gate that was trained blind: it takes payloads alone and assumes good links.
            Default what the gate says.
        like: the file of a gate of the same form; see `export_onnx`.

    Raises:
        InvalidInputError: the gate does not say whether it sees the SNR, or is to see what it cannot.
        RunFolderError: as `export_onnx`.
    """
    inputs = {INPUT: payload_T}
    if gate_sees(gate, sees_snr):
        snr_db = torch.linspace(-20, 40, len(payload_T) * experts)
        snr_db[0], snr_db[-1] = -torch.inf, torch.inf  # links without gain and without noise
        inputs[SNR_INPUT] = snr_db.reshape(-1, experts)
    export_onnx(_Scores(gate, pooling), inputs, path, like=like)


def gate_sees(gate: nn.Module, told: bool | None = None) -> bool:
    """Return whether a gate is to see the SNR: ``told``, or what the gate says itself.

    Raises:
        InvalidInputError: the gate does not say, or is to see what it cannot.
    """
    sees_snr = getattr(gate, "sees_snr", None)
    if not isinstance(sees_snr, bool):
        expected = "one that says by a bool `sees_snr` whether it looks at the links"
        raise InvalidInputError("gate", type(gate).__name__, expected)
    if told and not sees_snr:
        raise InvalidInputError("gate_sees_snr", told, f"False: {type(gate).__name__} cannot see the links")
    return sees_snr if told is None else told
