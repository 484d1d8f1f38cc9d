"""The engine in one process: states of clients, and errors that say where they were raised."""

from collections.abc import Mapping

import pytest
import torch

from airmoe.errors import AirmoeError, InvalidInputError
from airmoe.federated import Averaging, Exchange, Loop, Message, State, federate

PLACE = "walk, round 2, exchange train, client 1"


class Failing:
    """Fails in round 2, if it is to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def client_step(self, exchange: str, state: State, message: Message) -> tuple[State, Message]:
        if self.error is not None and message.numbers["round"] == 1:
            raise self.error
        return {"steps": state.get("steps", torch.zeros(())) + 1}, Message(
            {"w": torch.ones(1)}, {"samples": 1}
        )


def test_an_own_error_of_a_step_names_stage_round_exchange_and_client_in_its_sentence() -> None:
    error = InvalidInputError("rate", -1, "at least 0")
    with pytest.raises(InvalidInputError) as raised:
        federate(Averaging("walk", 2), {"w": torch.zeros(1)}, Loop([Failing(), Failing(error)]), 3)
    assert raised.value is error
    assert str(error) == f"{PLACE}: rate is -1; expected at least 0"
    assert error.name == "rate"


def test_any_other_error_of_a_step_has_a_note() -> None:
    with pytest.raises(ZeroDivisionError, match="by zero") as raised:
        federate(
            Averaging("walk", 2),
            {"w": torch.zeros(1)},
            Loop([Failing(), Failing(ZeroDivisionError("by zero"))]),
            3,
        )
    assert raised.value.__notes__ == [f"airmoe: {PLACE}"]


def test_an_error_of_the_server_says_so() -> None:
    class Picky(Averaging):
        def sum_step(
            self, exchange: str, state: State, total: State, replies: Mapping[int, Message]
        ) -> tuple[State, dict[int, Message]]:
            raise AirmoeError("no")

    with pytest.raises(AirmoeError, match=r"^walk, round 1, exchange train, server: no$"):
        federate(Picky("walk", 1), {"w": torch.zeros(1)}, Loop([Failing()]), 1)


def test_a_step_that_fails_leaves_the_state_of_its_client() -> None:
    loop, exchange = Loop([Failing(ValueError())]), Exchange("walk", 0, "train")
    dict(loop.carry(exchange, {0: Message(numbers={"round": 0})}))
    with pytest.raises(ValueError):  # noqa: PT011 (it has no words)
        dict(loop.carry(exchange, {0: Message(numbers={"round": 1})}))
    assert float(loop.states[0]["steps"]) == 1


def test_clients_have_states_of_their_own_that_can_be_given_back() -> None:
    loop, exchange = Loop([Failing(), Failing()]), Exchange("walk", 0, "train")
    dict(loop.carry(exchange, {1: Message(numbers={"round": 0})}))
    kept = {client: dict(state) for client, state in loop.states.items()}
    assert (kept[0], float(kept[1]["steps"])) == ({}, 1)
    dict(loop.carry(exchange, {0: Message(numbers={"round": 0}), 1: Message(numbers={"round": 0})}))
    loop.restore({1: kept[1]})
    assert loop.states == kept


class Training:
    """Takes one step of gradient descent to its target, in the very tensor that it was sent."""

    def __init__(self, target: float) -> None:
        self.target = target

    def client_step(self, exchange: str, state: State, message: Message) -> tuple[State, Message]:
        message.tensors["w"].add_(self.target - message.tensors["w"])
        return {"w": message.tensors["w"]}, Message(message.tensors, {"samples": 1})


def test_clients_may_train_in_the_tensors_that_they_were_sent() -> None:
    state, _ = federate(Averaging("mean", 2), {"w": torch.zeros(1)}, Loop([Training(1.0), Training(3.0)]), 1)
    assert state["w"].tolist() == [2.0]


def test_a_reply_stays_as_it_was_when_its_client_trains_on() -> None:
    weights = torch.zeros(1)

    class Counting:
        def client_step(self, exchange: str, state: State, message: Message) -> tuple[State, Message]:
            weights.add_(1)
            return state, Message({"w": weights}, {"samples": 1}, {0: {"w": weights}})

    counting = Counting()
    replies = dict(
        Loop([counting, counting]).carry(
            Exchange("count", 0, "train"), {client: Message() for client in range(2)}
        )
    )
    assert [float(reply.tensors["w"]) for reply in replies.values()] == [1.0, 2.0]
    assert [float(reply.letters[0]["w"]) for reply in replies.values()] == [1.0, 2.0]


def test_a_message_to_a_client_that_there_is_not_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"client is 2; expected one of the 2 clients of this loop"):
        federate(Averaging("walk", 3), {"w": torch.zeros(1)}, Loop([Failing(), Failing()]), 1)
