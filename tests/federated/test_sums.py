"""A stage that adds up what clients send."""

import weakref
from collections.abc import Iterator, Mapping

import numpy as np
import torch

from airmoe.federated import Exchange, Loop, Message, State, Summing, federate, run_round


class Sending:
    """A client that sends its tensors, and keeps what it was told."""

    def __init__(self, **tensors: torch.Tensor) -> None:
        self.tensors = tensors
        self.told: State = {}

    def client_step(self, exchange: str, state: State, message: Message) -> tuple[State, Message]:
        self.told = message.tensors
        return state, Message(self.tensors, {"samples": 1})


def test_the_sum_is_taken_in_float64_in_the_order_of_the_clients() -> None:
    values = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32) * 1e6
    clients = [Sending(a=torch.from_numpy(value)) for value in values]
    sums, (row,) = federate(Summing("sums", 4), {}, Loop(clients), 1)
    assert sums["a"].dtype == torch.float64
    np.testing.assert_array_equal(sums["a"].numpy(), sum(value.astype(np.float64) for value in values))
    assert row == {"stage": "sums", "round": 1, "participants": 4, "bytes": 4 * 3 * 4}


def test_all_clients_are_told_the_same_first() -> None:
    clients = [Sending(a=torch.ones(1)) for _ in range(2)]
    federate(Summing("sums", 2, told={"mean": torch.tensor([2.0])}), {}, Loop(clients), 1)
    assert [client.told["mean"].item() for client in clients] == [2.0, 2.0]


def test_a_client_of_another_form_is_named_and_left_out() -> None:
    clients = [Sending(a=torch.ones(2)), Sending(a=torch.ones(3)), Sending(a=torch.ones(2))]
    sums, (row,) = federate(Summing("sums", 3), {}, Loop(clients), 1)
    assert sums["a"].tolist() == [2.0, 2.0]
    assert row["rejected"] == "1: a is (torch.float32, (3,)); expected (torch.float32, (2,))"


def test_the_sum_of_nothing_is_empty() -> None:
    class Deaf(Loop):
        def carry(self, exchange: object, messages: object) -> Iterator[tuple[int, Message]]:
            return iter(())

    assert run_round(Summing("sums", 1), {}, 0, Deaf([Sending(a=torch.ones(1))])).state == {}


def test_replies_are_added_up_one_at_a_time() -> None:
    seen = list[weakref.ref[Message]]()

    class Watched(Loop):
        def carry(self, exchange: Exchange, messages: Mapping[int, Message]) -> Iterator[tuple[int, Message]]:
            for client, reply in super().carry(exchange, messages):
                seen.append(weakref.ref(reply))
                most.append(sum(each() is not None for each in seen))
                yield client, reply
                del reply

    most = list[int]()
    clients = [Sending(a=torch.ones(2)) for _ in range(5)]
    federate(Summing("sums", 5), {}, Watched(clients), 1)
    assert max(most) <= 2  # the one that was added last, and the next
