"""What tensors that belong together must be: of one form, which is names, types and shapes; and finite."""

import cmath
from collections.abc import Mapping

import torch
from torch import Tensor

from airmoe.federated.exchange import State

Forms = Mapping[str, tuple[torch.dtype, tuple[int, ...]]]
"""Type and shape of tensors, by name."""


def forms_of(tensors: State) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """Return type and shape of each tensor."""
    return {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}


def fault_of_form(tensors: State, forms: Forms) -> str:
    """Return the first difference in name, type or shape; empty if there is none."""
    if (given := forms_of(tensors)) == forms:
        return ""
    name = min(name for name in given.keys() | forms.keys() if given.get(name) != forms.get(name))
    return f"{name} is {given.get(name, 'left out')}; expected {forms.get(name, 'no such tensor')}"


def not_finite(tensors: State) -> str:
    """Return the name of the first tensor that holds NaN or an infinity; empty if there is none.

    Tensors without values (``meta``) count as finite.
    """
    return next((name for name, tensor in tensors.items() if not _is_finite(tensor)), "")


def _is_finite(tensor: Tensor) -> bool:
    # A finite sum has finite terms, and takes a tenth of the time; one that overflowed tells nothing.
    if tensor.is_floating_point() and tensor.itemsize == 1:
        tensor = tensor.float()  # PyTorch adds up no numbers of 8 bits
    return tensor.is_meta or cmath.isfinite(tensor.sum().item()) or bool(tensor.isfinite().all())
