"""Weights of a network: finite or not, and on their way to and from a file after a check that they fit."""

import cmath
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor, contiguous_format, nn

from airmoe.errors import RunFolderError
from airmoe.files import replaced_file


def save_weights(network: nn.Module, path: Path) -> None:
    """Write all weights of a network as safetensors; weights that share memory are written each."""
    with replaced_file(path) as temporary:
        save_file(unshared(network.state_dict()), temporary)


def unshared(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors of which no two share memory, for safetensors; those that did are copies."""
    seen: set[int] = set()
    alone = {}
    for name, tensor in state.items():
        place = tensor.untyped_storage().data_ptr()
        alone[name] = tensor.clone(memory_format=contiguous_format) if place in seen else tensor.contiguous()
        seen.add(place)
    return alone


def load_weights(network: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Load weights by name.

    Args:
        network: changed in place, or not at all.
        state: all weights of the network and no other.
        origin: where they come from, for errors.

    Raises:
        RunFolderError: a weight is missing, unknown or of another shape; it names the first, and both shapes.
    """
    own = network.state_dict()
    for name in sorted(own.keys() | state.keys()):
        if name not in state:
            raise RunFolderError(f"{origin}: {name} is missing; expected shape {tuple(own[name].shape)}")
        if name not in own:
            expected = "it is of another network, or of another version of airmoe"
            raise RunFolderError(f"{origin}: {name} is unknown to this network; {expected}")
        if state[name].shape != own[name].shape:
            raise RunFolderError(
                f"{origin}: {name} has shape {tuple(state[name].shape)}; expected {tuple(own[name].shape)}"
            )
    network.load_state_dict(dict(state))


def not_finite(tensors: Mapping[str, Tensor]) -> str:
    """Return the name of the first tensor that holds NaN or an infinity; empty if there is none.

    Tensors without values (``meta``) count as finite.
    """
    return next((name for name, tensor in tensors.items() if not _is_finite(tensor)), "")


def _is_finite(tensor: Tensor) -> bool:
    # A finite sum has finite terms, and takes a tenth of the time; one that overflowed tells nothing.
    if tensor.is_floating_point() and tensor.itemsize == 1:
        tensor = tensor.float()  # PyTorch adds up no numbers of 8 bits
    return tensor.is_meta or cmath.isfinite(tensor.sum().item()) or bool(tensor.isfinite().all())
