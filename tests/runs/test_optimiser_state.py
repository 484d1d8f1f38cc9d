"""What an optimiser remembers goes through a checkpoint, and training goes on as if nothing had been."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from airmoe.runs.checkpoint import Checkpoint
from airmoe.runs.optimiser_state import flattened, restored


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def adamw(model: nn.Sequential) -> torch.optim.Optimizer:
    groups = [{"params": list(model[0].parameters()), "lr": 1e-3}, {"params": list(model[2].parameters())}]
    return torch.optim.AdamW(groups, lr=1e-2, weight_decay=0.1)


def momentum(model: nn.Sequential) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9)


def train(model: nn.Sequential, optimiser: torch.optim.Optimizer, first: int, last: int) -> None:
    for step in range(first, last):
        inputs = torch.randn(5, 3, generator=torch.Generator().manual_seed(step))
        optimiser.zero_grad()
        model(inputs).square().sum().backward()
        optimiser.step()


def copied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in state.items()}


@pytest.mark.parametrize("make", [adamw, momentum])
def test_an_optimiser_that_was_restored_goes_on_bit_for_bit(make: type, tmp_path: Path) -> None:
    model = network()
    optimiser = make(model)
    train(model, optimiser, 0, 5)
    groups = {"model": copied(model.state_dict()), "optimiser": flattened(optimiser)}
    Checkpoint(tmp_path, "x").save("clean", groups, [])
    train(model, optimiser, 5, 9)

    resumed = network()
    other = make(resumed)
    saved = Checkpoint(tmp_path, "x").load("clean")
    assert saved is not None
    resumed.load_state_dict(saved.groups["model"])
    restored(other, saved.groups["optimiser"])
    train(resumed, other, 5, 9)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    assert flattened(other).keys() == flattened(optimiser).keys()


def test_rates_are_those_of_the_optimiser_not_of_what_it_remembers() -> None:
    model = network()
    optimiser = adamw(model)
    train(model, optimiser, 0, 1)
    other = adamw(model)
    other.param_groups[1]["lr"] = 5.0
    restored(other, flattened(optimiser))
    assert [group["lr"] for group in other.param_groups] == [1e-3, 5.0]


def test_without_a_step_there_is_nothing_to_remember() -> None:
    optimiser = adamw(network())
    assert flattened(optimiser) == {}
    restored(optimiser, {})
    assert flattened(optimiser) == {}
