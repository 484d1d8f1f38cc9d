"""The memory of an optimiser as named tensors, which a checkpoint can hold."""

from collections.abc import Mapping

import torch
from torch import Tensor


def flattened(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return what an optimiser remembers of its parameters, on the CPU."""
    return {
        f"{number}/{name}": torch.as_tensor(value).detach().cpu()
        for number, memory in optimiser.state_dict()["state"].items()
        for name, value in memory.items()
    }


def restored(optimiser: torch.optim.Optimizer, memory: Mapping[str, Tensor]) -> None:
    """Give back to an optimiser of the same parameters what `flattened` returned."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in memory.items():
        number, _, name = key.partition("/")
        state.setdefault(int(number), {})[name] = tensor
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
