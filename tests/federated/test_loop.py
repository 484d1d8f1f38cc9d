"""The loop of federated rounds: broadcast, update, average, account, stop when it diverges."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from airmoe.errors import TrainingDivergedError
from airmoe.federated.loop import ClientUpdate, State, average_states, federate
from airmoe.runs.checkpoint import Checkpoint, MetricsRow


def update_of(values: list[float], samples: int) -> ClientUpdate:
    return ClientUpdate({"w": torch.tensor(values)}, samples, 0.0)


def test_the_average_is_weighted_by_samples() -> None:
    mean = average_states([update_of([1.0, 0.0], 1), update_of([5.0, 4.0], 3)])
    assert mean["w"].tolist() == [4.0, 3.0]


@given(st.lists(st.tuples(st.floats(-1e3, 1e3, width=32), st.integers(1, 500)), min_size=1, max_size=12))
def test_the_average_is_the_mean_over_all_samples(clients: list[tuple[float, int]]) -> None:
    mean = average_states([update_of([value], samples) for value, samples in clients])
    values, samples = zip(*clients, strict=True)
    expected = np.average(np.float64(values), weights=samples)
    assert float(mean["w"]) == pytest.approx(expected, rel=1e-6, abs=1e-4)


def test_the_average_is_summed_in_float64() -> None:
    # In float32, 2^24 + 1 is 2^24: the ones would be lost one after another.
    updates = [update_of([2.0**24], 1), *[update_of([1.0], 1)] * 7]
    mean = average_states(updates)["w"]
    assert float(mean) == np.float32((2**24 + 7) / 8)
    assert mean.dtype == torch.float32


def test_equal_updates_average_to_themselves_bit_for_bit() -> None:
    state = {"w": torch.randn(100)}
    mean = average_states([ClientUpdate(state, samples, 0.0) for samples in (3, 1, 7)])
    assert torch.equal(mean["w"], state["w"])


class Walker:
    """Adds its step to the workspace it shares with the others, in place, as training does."""

    def __init__(self, workspace: nn.Linear, step: float, seen: list[float]) -> None:
        self.workspace, self.step, self.seen = workspace, step, seen

    def update(self, state: State, round_: int) -> ClientUpdate:
        self.workspace.load_state_dict(state)
        self.seen.append(float(self.workspace.bias.detach()))
        with torch.no_grad():
            self.workspace.bias += self.step
        trained = {name: tensor.clone() for name, tensor in self.workspace.state_dict().items()}
        return ClientUpdate(trained, 1, self.step, query_bytes=10)

    def memory(self) -> dict[str, Tensor]:
        return {}

    def remember(self, memory: State) -> None:
        """Nothing."""


def walkers(steps: list[float]) -> tuple[nn.Linear, list[Walker], list[float]]:
    workspace, seen = nn.Linear(1, 1), list[float]()
    nn.init.zeros_(workspace.bias)
    return workspace, [Walker(workspace, step, seen) for step in steps], seen


def test_all_clients_of_a_round_start_from_the_same_weights_in_the_first_round_too() -> None:
    # The initial state may be the shared workspace's own tensors.
    workspace, clients, seen = walkers([1.0, 2.0, 6.0])
    state, _ = federate("walk", workspace.state_dict(), clients, 2)
    assert seen == [0.0, 0.0, 0.0, 3.0, 3.0, 3.0]
    assert float(state["bias"]) == 6.0


def test_a_row_counts_both_directions_of_every_client_and_what_clients_exchanged() -> None:
    workspace, clients, _ = walkers([1.0, 2.0])
    _, rows = federate("walk", workspace.state_dict(), clients, 3)
    weights_bytes = 2 * 4
    assert [row["bytes"] for row in rows] == [2 * (2 * weights_bytes + 10)] * 3
    assert [row["round"] for row in rows] == [1, 2, 3]
    assert [row["loss"] for row in rows] == [1.5] * 3


def test_weights_are_evaluated_every_so_often_and_after_the_last_round() -> None:
    workspace, clients, _ = walkers([1.0])
    reported: list[MetricsRow] = []
    federate(
        "walk",
        workspace.state_dict(),
        clients,
        7,
        evaluate=lambda state: {"bias": float(state["bias"])},
        evaluate_every=3,
        report=reported.append,
    )
    assert [(row["round"], row["bias"]) for row in reported if "bias" in row] == [
        (3, 3.0),
        (6, 6.0),
        (7, 7.0),
    ]


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, wrong: float
) -> None:
    class Diverging(Walker):
        def update(self, state: State, round_: int) -> ClientUpdate:
            good = super().update(state, round_)
            return ClientUpdate(good.state, 1, wrong) if round_ == 2 else good

    workspace, _, seen = walkers([1.0])
    checkpoint = Checkpoint(tmp_path, "x")
    with pytest.raises(TrainingDivergedError, match=r"walk: the loss is (nan|inf) in round 3 of 5"):
        federate("walk", workspace.state_dict(), [Diverging(workspace, 1.0, seen)], 5, checkpoint=checkpoint)
    saved = checkpoint.load("walk")
    assert saved is not None
    assert saved[0]["bias"].tolist() == [2.0]
    assert len(saved[2]) == 2


def test_a_weight_that_is_not_finite_stops_the_run_even_if_the_loss_is_finite(tmp_path: Path) -> None:
    workspace, clients, _ = walkers([1.0, float("inf")])
    clients[1].update = lambda state, round_: ClientUpdate(  # type: ignore[method-assign]
        {"weight": torch.zeros(1, 1), "bias": torch.tensor([torch.inf])}, 1, 0.5
    )
    with pytest.raises(TrainingDivergedError, match="walk: a weight is not finite in round 1 of 5"):
        federate("walk", workspace.state_dict(), clients, 5, checkpoint=Checkpoint(tmp_path, "x"))
    assert not list(tmp_path.iterdir())
