"""A stage that adds up what clients send."""

import numpy as np
import pytest
import torch

from airmoe.errors import InvalidInputError
from airmoe.federated import Loop, Message, State, Summing, federate, total


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
    assert row == {"stage": "sums", "round": 1, "bytes": 4 * 3 * 4}


def test_all_clients_are_told_the_same_first() -> None:
    clients = [Sending(a=torch.ones(1)) for _ in range(2)]
    federate(Summing("sums", 2, told={"mean": torch.tensor([2.0])}), {}, Loop(clients), 1)
    assert [client.told["mean"].item() for client in clients] == [2.0, 2.0]


def test_a_client_of_another_shape_is_named() -> None:
    replies = {0: Message({"a": torch.ones(2)}), 3: Message({"a": torch.ones(3)})}
    with pytest.raises(InvalidInputError, match="a of client 3"):
        total(replies)


def test_nothing_has_no_sum() -> None:
    with pytest.raises(InvalidInputError, match=r"replies is {}; expected at least one"):
        total({})
