"""ONNX traces of this session: a network of a form that was traced already is not traced again.

A trace takes seconds, and most tests that train and export a run are not about it. Of each form a copy with
random weights is traced once, and whatever stands in the graph as one of those weights, in any shape, gets
the weights of the network that is exported. If ONNX Runtime then does not give what PyTorch gives, the
network is traced all the same. ``tests/runs/test_traces.py`` shows that the file is that of a trace; tests
of traces themselves use ``traced_anew``.
"""

import copy
import hashlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from airmoe.errors import RunFolderError
from airmoe.files import replaced_file
from airmoe.runs import onnx_files

TRACED = onnx_files._traced
"""The real one."""


def remember_traces(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Keep the trace of every form in a folder, which processes may share."""

    def traced(module: nn.Module, inputs: Mapping[str, Tensor]) -> bytes:
        kept = folder / f"{_form(module, inputs)}.onnx"
        if not kept.exists():
            with suppress(OSError), replaced_file(kept) as temporary:  # a test may say that the disk is full
                temporary.write_bytes(traced_form(module, inputs))
        with suppress(OSError, RunFolderError):
            network = written_in(kept.read_bytes(), module)
            expected = onnx_files._outputs(module, inputs)
            if onnx_files._difference(expected, inputs, network, kept.name) <= onnx_files.TOLERANCE:
                return network
        return TRACED(module, inputs)

    patch.setattr(onnx_files, "_traced", traced)


def traced_form(module: nn.Module, inputs: Mapping[str, Tensor]) -> bytes:
    """Return the trace of a copy with random weights; each value that is a weight is noted to be it."""
    twin, draws = copy.deepcopy(module), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in twin.state_dict().values():
            if weight.is_floating_point():
                weight.copy_(torch.rand(weight.shape, generator=draws) + 0.5)
    network, weights = onnx.load_from_string(TRACED(twin, inputs)), _flat_weights(twin)
    for values in network.graph.initializer:
        flat = onnx.numpy_helper.to_array(values).ravel()
        for name in weights:
            if np.array_equal(weights[name], flat):
                values.doc_string = name
    return bytes(network.SerializeToString(deterministic=True))


def written_in(form: bytes, module: nn.Module) -> bytes:
    """Return the trace of a form with a module's own weights."""
    network, weights = onnx.load_from_string(form), _flat_weights(module)
    for values in network.graph.initializer:
        if values.doc_string:
            own = weights[values.doc_string].reshape(tuple(values.dims))
            values.CopyFrom(onnx.numpy_helper.from_array(own, values.name))
    return bytes(network.SerializeToString(deterministic=True))


def _flat_weights(module: nn.Module) -> dict[str, NDArray[np.float32]]:
    return {
        name: weight.numpy(force=True).ravel()
        for name, weight in module.state_dict().items()
        if weight.is_floating_point()
    }


def _form(module: nn.Module, inputs: Mapping[str, Tensor]) -> str:
    """A name of what a trace depends on: kinds and settings of all parts, and shapes."""
    parts = [
        (name, type(part).__module__, type(part).__qualname__, part.extra_repr(), _settings(part))
        for name, part in module.named_modules()
    ]
    weights = [(name, tuple(weight.shape), weight.dtype) for name, weight in module.state_dict().items()]
    examples = [(name, tuple(example.shape), example.dtype) for name, example in inputs.items()]
    return hashlib.sha256(repr((parts, weights, examples)).encode()).hexdigest()


def _settings(part: nn.Module) -> list[tuple[str, str]]:
    """The plain values that a module holds beside its parameters and modules."""
    plain = (bool, int, float, str, tuple, list)
    return sorted((name, repr(value)) for name, value in vars(part).items() if isinstance(value, plain))
