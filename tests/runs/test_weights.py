"""Weights are loaded whole or not at all, and what does not fit is named."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from airmoe.errors import RunFolderError
from airmoe.nn import BiasGate, ConcatGate, MlpGate
from airmoe.runs.checkpoint import Checkpoint
from airmoe.runs.weights import load_weights, save_weights


def network(seed: int = 0, hidden: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, hidden), nn.BatchNorm1d(hidden), nn.Linear(hidden, 1))


def copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def test_weights_that_went_through_a_checkpoint_are_the_same(tmp_path: Path) -> None:
    source, target = network(seed=1), network(seed=2)
    source(torch.randn(8, 2))  # batch statistics are saved, too
    Checkpoint(tmp_path, "x").save("clean", {"model": copied(source)}, [])
    saved = Checkpoint(tmp_path, "x").load("clean")
    assert saved is not None
    load_weights(target, saved.groups["model"], "checkpoint")
    for name, tensor in source.state_dict().items():
        assert torch.equal(tensor, target.state_dict()[name]), name
    assert int(target.state_dict()["1.num_batches_tracked"]) == 1


def wrong_state(kind: str) -> dict[str, Tensor]:
    state = copied(network(seed=1))
    if kind == "missing":
        del state["2.weight"]
    elif kind == "unknown":
        state["1.scale"] = torch.zeros(3)
    else:
        state["0.weight"] = state["0.weight"].T.contiguous()
        state["2.bias"] = torch.zeros(5)
    return state


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("missing", "my file: 2.weight is missing; expected shape (1, 3)"),
        (
            "unknown",
            "my file: 1.scale is unknown to this network; it is of another network, or of another version of "
            "airmoe",
        ),
        ("another shape", "my file: 0.weight has shape (2, 3); expected (3, 2)"),
    ],
)
def test_the_first_weight_that_does_not_fit_is_named_and_nothing_is_changed(kind: str, said: str) -> None:
    target = network(seed=2)
    with pytest.raises(RunFolderError) as refused:
        load_weights(target, wrong_state(kind), "my file")
    assert str(refused.value) == said
    for name, tensor in network(seed=2).state_dict().items():
        assert torch.equal(tensor, target.state_dict()[name])


def test_a_concat_gate_of_other_experts_does_not_fit() -> None:
    # Its first layer sees an SNR for each of its own experts.
    with pytest.raises(RunFolderError) as refused:
        load_weights(ConcatGate(5, 4), ConcatGate(5, 6).state_dict(), "gate.safetensors")
    assert str(refused.value) == ("gate.safetensors: hidden.weight has shape (128, 11); expected (128, 9)")


def test_a_gate_whose_links_may_be_worth_less_as_they_get_better_is_refused() -> None:
    """Its phi was a free 1-16-1 MLP."""
    gate = BiasGate(MlpGate(5, 4))
    former = gate.state_dict() | {"link_worth.0.weight": torch.zeros(16, 1)}
    del former["link_worth.weight_S"]
    with pytest.raises(RunFolderError) as refused:
        load_weights(gate, former, "gate.safetensors")
    assert str(refused.value) == (
        "gate.safetensors: link_worth.0.weight is unknown to this network; it is of another network, or of "
        "another version of airmoe"
    )


def test_a_bias_gate_of_other_experts_fits_once_it_is_made_for_these() -> None:
    gate, other = BiasGate(MlpGate(5, 4)), BiasGate(MlpGate(5, 6))
    with pytest.raises(RunFolderError, match=r"content\.last\.bias has shape \(6,\); expected \(4,\)"):
        load_weights(gate, other.state_dict(), "gate")
    load_weights(gate, other.of_experts([5, 0, 1, 2]).state_dict(), "gate")


def test_weights_that_are_tied_are_written_each(tmp_path: Path) -> None:
    tied = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    tied[1].weight = tied[0].weight
    save_weights(tied, tmp_path / "tied.safetensors")
    again = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    load_weights(again, load_file(tmp_path / "tied.safetensors"), "tied")
    assert torch.equal(again[1].weight, tied[0].weight)
    assert (tmp_path / "tied.safetensors").stat().st_mode & 0o777 == 0o644
