"""The mean of what clients reply."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from airmoe.errors import InvalidInputError
from airmoe.federated import Averaging, Message, average


def reply_of(values: list[float], samples: int) -> Message:
    return Message({"w": torch.tensor(values)}, {"samples": samples, "loss": 0.0})


def test_the_average_is_weighted_by_samples() -> None:
    mean = average({0: reply_of([1.0, 0.0], 1), 1: reply_of([5.0, 4.0], 3)})
    assert mean["w"].tolist() == [4.0, 3.0]


@given(st.lists(st.tuples(st.floats(-1e3, 1e3, width=32), st.integers(1, 500)), min_size=1, max_size=12))
def test_the_average_is_the_mean_over_all_samples(clients: list[tuple[float, int]]) -> None:
    mean = average({i: reply_of([value], samples) for i, (value, samples) in enumerate(clients)})
    values, samples = zip(*clients, strict=True)
    expected = np.average(np.float64(values), weights=samples)
    assert float(mean["w"]) == pytest.approx(expected, rel=1e-6, abs=1e-4)


def test_the_average_is_summed_in_float64() -> None:
    # In float32, 2^24 + 1 is 2^24: the ones would be lost one after another.
    replies = [reply_of([2.0**24], 1), *[reply_of([1.0], 1)] * 7]
    mean = average(dict(enumerate(replies)))["w"]
    assert float(mean) == np.float32((2**24 + 7) / 8)
    assert mean.dtype == torch.float32


def test_equal_replies_average_to_themselves_bit_for_bit() -> None:
    state = {"w": torch.randn(100)}
    mean = average({client: Message(state, {"samples": samples}) for client, samples in enumerate((3, 1, 7))})
    assert torch.equal(mean["w"], state["w"])


def test_only_the_last_exchange_of_a_round_is_averaged() -> None:
    stage, state = Averaging("s", 1, ("ask", "train")), {"w": torch.zeros(1)}
    assert stage.server_step("ask", state, {0: reply_of([1.0], 1)}) == (state, {})
    assert stage.server_step("train", state, {0: reply_of([1.0], 1)})[0]["w"].tolist() == [1.0]


def test_where_nobody_trained_the_weights_stay() -> None:
    stage, state = Averaging("s", 2), {"w": torch.zeros(1)}
    assert stage.server_step("train", state, {})[0] is state
    assert stage.server_step("train", state, {0: reply_of([1.0], 0)})[0] is state


def test_all_clients_get_the_weights_in_every_round() -> None:
    state = {"w": torch.zeros(1)}
    assert Averaging("s", 3).opening(state, 7) == {client: Message(state) for client in range(3)}


def test_there_is_no_mean_of_no_replies() -> None:
    with pytest.raises(InvalidInputError, match=r"replies is \{\}; expected at least one"):
        average({})
