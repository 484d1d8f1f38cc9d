"""The form of tensors that belong together: names, types and shapes."""

from collections.abc import Mapping

import torch

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
