"""Rounds of federated training: accounts, checkpoints, a stop when it diverges."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from airmoe.errors import InvalidInputError, TrainingDivergedError
from airmoe.federated import Averaging, Loop, Message, State, Summing, federate
from airmoe.runs.checkpoint import Checkpoint
from tests.federated.walkers import Losing, Walker, walkers


def test_all_clients_of_a_round_start_from_the_same_weights_in_the_first_round_too() -> None:
    # The initial state may be the shared workspace's own tensors.
    workspace, clients, seen = walkers([1.0, 2.0, 6.0])
    state, _ = federate(Averaging("walk", 3), workspace.state_dict(), Loop(clients), 2)
    assert seen == [0.0, 0.0, 0.0, 3.0, 3.0, 3.0]
    assert float(state["bias"]) == 6.0


def test_a_row_counts_both_directions_of_every_client() -> None:
    workspace, clients, _ = walkers([1.0, 2.0])
    _, rows = federate(Averaging("walk", 2), workspace.state_dict(), Loop(clients), 3)
    weights_bytes = 2 * 4
    assert rows == [
        {"stage": "walk", "round": round_, "participants": 2, "loss": 1.5, "bytes": 2 * 2 * weights_bytes}
        for round_ in (1, 2, 3)
    ]


def test_a_row_names_the_clients_that_left_the_round_and_counts_without_them() -> None:
    workspace, clients, _ = walkers([1.0, 2.0, 3.0])
    engine = Losing(clients, {(1, "train", 0), (1, "train", 2)})
    state, rows = federate(Averaging("walk", 3), workspace.state_dict(), engine, 3)
    assert [row.get("missing") for row in rows] == [None, "0, 2", None]
    assert [row["participants"] for row in rows] == [3, 1, 3]
    assert [row["loss"] for row in rows] == [2.0, 2.0, 2.0]
    assert [row["bytes"] for row in rows] == [6 * 8, (3 + 1) * 8, 6 * 8]
    assert float(state["bias"]) == 2.0 + 2.0 + 2.0


def test_a_round_without_a_reply_is_a_row_without_a_loss() -> None:
    workspace, clients, _ = walkers([1.0])
    state, rows = federate(
        Averaging("walk", 1), workspace.state_dict(), Losing(clients, {(0, "train", 0)}), 2
    )
    assert rows[0] == {"stage": "walk", "round": 1, "participants": 0, "bytes": 8, "missing": "0"}
    assert float(state["bias"]) == 1.0


def test_a_single_round_without_a_reply_is_refused() -> None:
    workspace, clients, _ = walkers([1.0])
    engine = Losing(clients, {(0, "train", 0)})
    with pytest.raises(TrainingDivergedError, match="walk: nobody replied in round 1 of 1"):
        federate(Averaging("walk", 1), workspace.state_dict(), engine, 1)


def test_a_sum_of_nothing_is_refused() -> None:
    _, clients, _ = walkers([1.0])
    with pytest.raises(TrainingDivergedError, match="sums: nobody replied"):
        federate(Summing("sums", 1, ("train",)), {}, Losing(clients, {(0, "train", 0)}), 1)


def test_a_round_in_which_nobody_learnt_anything_changes_nothing() -> None:
    class Idle:
        def client_step(self, exchange: str, state: State, message: Message) -> tuple[State, Message]:
            return state, Message(message.tensors, {"samples": 0})

    state, rows = federate(Averaging("idle", 1), {"w": torch.ones(2)}, Loop([Idle()]), 2)
    assert torch.equal(state["w"], torch.ones(2))
    assert [row["rejected"] for row in rows] == ["0: samples is 0; expected a number above 0"] * 2


def test_the_privacy_of_a_reply_that_is_rejected_is_spent_all_the_same() -> None:
    class Released:
        def __init__(self, epsilon: float, loss: float) -> None:
            self.numbers = {"samples": 1.0, "epsilon": epsilon, "loss": loss}

        def client_step(self, exchange: str, state: State, message: Message) -> tuple[State, Message]:
            return state, Message(message.tensors, self.numbers)

    clients = [Released(1.0, 0.0), Released(50.0, float("nan"))]
    _, (row,) = federate(Averaging("noisy", 2), {"w": torch.ones(2)}, Loop(clients), 1)
    assert (row["epsilon"], row["epsilons"]) == (50.0, "0: 1, 1: 50")
    assert row["rejected"] == "1: the loss is nan"


def test_weights_are_evaluated_every_5_rounds_and_after_the_last_and_progress_says_so() -> None:
    workspace, clients, _ = walkers([1.0])
    told: list[tuple[str, int, int, str]] = []
    _, rows = federate(
        Averaging("walk", 1),
        workspace.state_dict(),
        Loop(clients),
        7,
        evaluate=lambda state: {"macro_f1": float(state["bias"])},
        progress=lambda *args: told.append(args),  # type: ignore[arg-type]
    )
    assert [(row["round"], row["macro_f1"]) for row in rows if "macro_f1" in row] == [(5, 5.0), (7, 7.0)]
    notes = ["", "", "", "", "macro-F1 5.000", "", "macro-F1 7.000"]
    assert told == [("walk", done, 7, note) for done, note in enumerate(notes, 1)]


class Interrupted(Exception):
    """As if the process had ended."""


@pytest.mark.parametrize("after", [1, 2, 4])
def test_a_stage_that_was_interrupted_goes_on_with_the_states_of_server_and_clients(
    tmp_path: Path, after: int
) -> None:
    def stop(activity: str, done: int, total: int, note: str = "") -> None:
        if done == after:
            raise Interrupted

    def steps_of(engine: Loop) -> list[float]:
        return [float(state["steps"]) for state in engine.states.values()]

    stage, (workspace, clients, seen) = Averaging("walk", 2), walkers([1.0, 2.0])
    whole = Loop(clients)
    state, rows = federate(stage, workspace.state_dict(), whole, 5)
    workspace, clients, seen = walkers([1.0, 2.0])
    with pytest.raises(Interrupted):
        federate(
            stage,
            workspace.state_dict(),
            Loop(clients),
            5,
            checkpoint=Checkpoint(tmp_path, "x"),
            progress=stop,
        )
    resumed = Loop(clients)
    again = federate(stage, workspace.state_dict(), resumed, 5, checkpoint=Checkpoint(tmp_path, "x"))
    assert again == (state, rows)
    assert steps_of(resumed) == steps_of(whole) == [5.0, 5.0]
    assert len(seen) == 2 * 5  # no round twice


def test_client_and_server_may_keep_the_same_tensors(tmp_path: Path) -> None:
    class Keeping(Walker):
        def client_step(self, exchange: str, state: State, message: Message) -> tuple[State, Message]:
            reply = super().client_step(exchange, state, message)[1]
            return message.tensors, reply

    workspace, _, seen = walkers([1.0])
    clients, checkpoint = [Keeping(workspace, 1.0, seen)] * 2, Checkpoint(tmp_path, "x")
    federate(Averaging("walk", 2), workspace.state_dict(), Loop(clients), 2, checkpoint=checkpoint)
    saved = checkpoint.load("walk")
    assert saved is not None
    assert {group: float(tensors["bias"]) for group, tensors in saved.groups.items()} == {
        "server": 2.0,
        "client 0": 1.0,
        "client 1": 1.0,
    }


def test_a_server_may_keep_one_tensor_under_two_names(tmp_path: Path) -> None:
    class Tied(Averaging):
        def sum_step(
            self, exchange: str, state: State, total: State, replies: Mapping[int, Message]
        ) -> tuple[State, dict[int, Message]]:
            untied = {name: tensor for name, tensor in state.items() if name != "tied"}
            mean, told = super().sum_step(exchange, untied, total, replies)
            return {**mean, "tied": mean["bias"]}, told

        def fault(self, exchange: str, state: State, reply: Message) -> str:
            return ""

    class Apart(Walker):
        def client_step(self, exchange: str, state: State, message: Message) -> tuple[State, Message]:
            own = {name: tensor for name, tensor in message.tensors.items() if name != "tied"}
            return super().client_step(exchange, state, replace(message, tensors=own))

    workspace, _, seen = walkers([])
    checkpoint, clients = Checkpoint(tmp_path, "x"), Loop([Apart(workspace, 2.0, seen)])
    state, _ = federate(Tied("walk", 1), workspace.state_dict(), clients, 2, checkpoint=checkpoint)
    saved = checkpoint.load("walk")
    assert saved is not None
    assert saved.groups["server"] == state
    assert float(state["tied"]) == float(state["bias"]) == 4.0


def test_fewer_rounds_than_a_checkpoint_has_behind_it_are_refused(tmp_path: Path) -> None:
    workspace, clients, seen = walkers([1.0])
    stage, start, checkpoint = Averaging("walk", 1), workspace.state_dict(), Checkpoint(tmp_path, "x")
    whole = federate(stage, start, Loop(clients), 5, checkpoint=checkpoint)
    with pytest.raises(InvalidInputError, match=r"^rounds is 3; expected at least 5, the rounds of walk"):
        federate(stage, start, Loop(clients), 3, checkpoint=checkpoint)
    assert federate(stage, start, Loop(clients), 5, checkpoint=checkpoint) == whole
    assert len(seen) == 5


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, wrong: float
) -> None:
    class Diverging(Walker):
        def client_step(self, exchange: str, state: State, message: Message) -> tuple[State, Message]:
            state, good = super().client_step(exchange, state, message)
            loss = wrong if message.numbers["round"] == 2 else 0.0
            return state, Message(good.tensors, {"samples": 1, "loss": loss})

    workspace, _, seen = walkers([1.0])
    checkpoint, engine = Checkpoint(tmp_path, "x"), Loop([Diverging(workspace, 1.0, seen)])
    with pytest.raises(
        TrainingDivergedError, match=r"^walk: no reply was of use in round 3 of 5; 0: the loss is (nan|inf)$"
    ):
        federate(Averaging("walk", 1), workspace.state_dict(), engine, 5, checkpoint=checkpoint)
    saved = checkpoint.load("walk")
    assert saved is not None
    assert saved.groups["server"]["bias"].tolist() == [2.0]
    assert len(saved.rows) == 2


def harmed(client: Walker, reply: Message) -> Walker:
    client.client_step = lambda exchange, state, message: (state, reply)  # type: ignore[method-assign]
    return client


UNSOUND = {
    "bias is not finite": Message(
        {"weight": torch.zeros(1, 1), "bias": torch.tensor([torch.inf])}, {"samples": 1, "loss": 0.5}
    ),
    "the loss is nan": Message({}, {"samples": 1, "loss": torch.nan}),
    "samples is 0; expected a number above 0": Message(
        {"weight": torch.zeros(1, 1), "bias": torch.zeros(1)}, {"samples": 0}
    ),
    "bias is (torch.float32, (2,)); expected (torch.float32, (1,))": Message(
        {"weight": torch.zeros(1, 1), "bias": torch.zeros(2)}, {"samples": 1}
    ),
}


@pytest.mark.parametrize("fault", UNSOUND)
def test_an_update_that_is_of_no_use_is_left_out_and_told_with_its_client_and_the_run_goes_on(
    fault: str,
) -> None:
    workspace, clients, _ = walkers([1.0, 5.0, 3.0])
    harmed(clients[1], UNSOUND[fault])
    told: list[str] = []
    state, rows = federate(
        Averaging("walk", 3),
        workspace.state_dict(),
        Loop(clients),
        2,
        progress=lambda activity, done, total, note="": told.append(note),
    )
    assert float(state["bias"]) == 2 * 2.0
    assert [row["rejected"] for row in rows] == [f"1: {fault}"] * 2
    assert not any("missing" in row for row in rows)
    assert told == [f"rejected: 1: {fault}"] * 2


def test_where_no_update_is_of_use_the_run_stops_and_names_all_reasons(tmp_path: Path) -> None:
    workspace, clients, _ = walkers([1.0, 5.0])
    for client, reply in zip(clients, UNSOUND.values(), strict=False):
        harmed(client, reply)
    expected = r"^walk: no reply was of use in round 1 of 5; 0: bias is not finite; 1: the loss is nan$"
    with pytest.raises(TrainingDivergedError, match=expected):
        federate(
            Averaging("walk", 2),
            workspace.state_dict(),
            Loop(clients),
            5,
            checkpoint=Checkpoint(tmp_path, "x"),
        )
    assert not list(tmp_path.iterdir())


def test_a_single_round_tells_of_every_reply() -> None:
    workspace, clients, _ = walkers([1.0, 2.0])
    told: list[tuple[str, int, int]] = []
    federate(
        Averaging("walk", 2),
        workspace.state_dict(),
        Loop(clients),
        1,
        progress=lambda activity, done, total, note="": told.append((activity, done, total)),
    )
    assert told == [("walk", 1, 2), ("walk", 2, 2)]


def test_exchanges_that_are_one_text_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"exchanges is 'train'; expected a tuple of names"):
        federate(Averaging("walk", 1, "train"), {}, Loop([]), 1)  # type: ignore[arg-type]


def test_a_loss_without_its_weight_is_refused() -> None:
    class Losses:
        def client_step(self, exchange: str, state: State, message: Message) -> tuple[State, Message]:
            return state, Message({}, {"loss": 1.0})

    expected = r"^walk, round 1: numbers of client 0 is \{'loss': 1.0\}; expected samples beside the loss"
    with pytest.raises(InvalidInputError, match=expected):
        federate(Summing("walk", 1), {}, Loop([Losses()]), 1)


@pytest.mark.parametrize("name", ["../walk", "a/b", "", ".hidden"])
def test_a_stage_has_a_name_that_a_file_can_have(tmp_path: Path, name: str) -> None:
    workspace, clients, _ = walkers([1.0])
    with pytest.raises(InvalidInputError, match=r"stage is .*; expected a name that a file can have"):
        federate(
            Averaging(name, 1),
            workspace.state_dict(),
            Loop(clients),
            1,
            checkpoint=Checkpoint(tmp_path / "checkpoints", "f"),
        )
    assert not list(tmp_path.rglob("*.safetensors"))
