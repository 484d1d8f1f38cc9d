"""The mean of what clients reply."""

from collections.abc import Mapping
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from airmoe.errors import InvalidInputError
from airmoe.federated import Averaging, Message, State, average


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


def replies_of(*tensors: torch.Tensor, samples: tuple[int, ...] = ()) -> dict[int, Message]:
    weights = samples or (1,) * len(tensors)
    pairs = zip(tensors, weights, strict=True)
    return {i: Message({"w": tensor}, {"samples": weight}) for i, (tensor, weight) in enumerate(pairs)}


INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_the_mean_of_integers_is_rounded_halves_to_even(dtype: torch.dtype) -> None:
    first, second = torch.tensor([1, 2, 3, 7, 120], dtype=dtype), torch.tensor([2, 3, 3, 9, 121], dtype=dtype)
    mean = average(replies_of(first, second))["w"]
    assert mean.tolist() == [2, 2, 3, 8, 120]
    assert mean.dtype == dtype
    weighed = average(replies_of(first, second, samples=(1, 2)))["w"]
    assert weighed.tolist() == [2, 3, 3, 8, 121]


@given(
    st.lists(st.tuples(st.integers(-(2**40), 2**40), st.integers(1, 999)), min_size=1, max_size=9),
)
def test_the_mean_of_integers_is_the_integer_next_to_the_mean(clients: list[tuple[int, int]]) -> None:
    tensors = [torch.tensor([value]) for value, _ in clients]
    mean = int(average(replies_of(*tensors, samples=tuple(samples for _, samples in clients)))["w"])
    exact = Fraction(sum(v * s for v, s in clients), sum(s for _, s in clients))
    assert mean == round(exact)  # Python's round takes halves to even, too


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64]
)
def test_means_of_other_types_keep_the_type(dtype: torch.dtype) -> None:
    mean = average(replies_of(torch.ones(2, dtype=dtype), torch.full((2,), 2, dtype=dtype)))["w"]
    assert (mean.dtype, mean.tolist()) == (dtype, [1.5, 1.5])


def test_booleans_stay_where_all_agree_and_have_no_mean_where_not() -> None:
    mask = torch.tensor([True, False])
    assert average(replies_of(mask, mask.clone(), mask.clone()))["w"].tolist() == [True, False]
    with pytest.raises(InvalidInputError, match="w is 'another boolean'; expected the same at all"):
        average(replies_of(mask, ~mask))


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ({"w": torch.zeros(1)}, r"client 1 is 'w is \(torch.float32, \(1,\)\); expected .*\(3,\)"),
        ({"w": torch.zeros(3).double()}, r"client 1 is 'w is \(torch.float64"),
        ({}, "tensors of client 1 is 'w is left out; expected .* expected those of the first client"),
        (
            {"w": torch.zeros(3), "v": torch.zeros(1)},
            r"v is \(torch.float32, \(1,\)\); expected no such tensor",
        ),
    ],
)
def test_tensors_of_another_form_are_not_bent_into_one(second: dict[str, torch.Tensor], said: str) -> None:
    first = Message({"w": torch.zeros(3)}, {"samples": 1})
    with pytest.raises(InvalidInputError, match=said):
        average({0: first, 1: Message(second, {"samples": 1})})


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({}, "samples of client 0 is None; expected a number"),
        ({"samples": -1}, "samples of client 0 is -1; expected a number of at least 0"),
        ({"samples": float("nan")}, "samples of client 0 is nan; expected a number"),
        ({"samples": 0}, "samples is 0; expected a finite sum above 0"),
    ],
)
def test_a_mean_needs_weights(numbers: dict[str, float], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        average({0: Message({"w": torch.zeros(1)}, numbers)})


def test_only_the_last_exchange_of_a_round_is_averaged() -> None:
    stage, state = Averaging("s", 1, ("ask", "train")), {"w": torch.zeros(1)}
    assert stage.sums == ("train",)
    assert stage.server_step("ask", state, {0: reply_of([1.0], 1)}) == (state, {})
    numbers = {0: Message(numbers={"samples": 4})}
    assert stage.sum_step("train", state, {"w": torch.tensor([8.0])}, numbers)[0]["w"].tolist() == [2.0]


def test_where_nobody_trained_the_weights_stay() -> None:
    stage, state = Averaging("s", 2), {"w": torch.zeros(1)}
    assert stage.sum_step("train", state, {}, {})[0] is state
    other = Averaging("s", 2, aggregation=Largest())
    assert other.server_step("train", state, {})[0] is state


class Largest:
    """An aggregation that is no mean: it needs every client's weights."""

    name = "largest"

    def __call__(self, state: State, replies: Mapping[int, Message]) -> State:
        return {"w": torch.stack([reply.tensors["w"] for reply in replies.values()]).amax(dim=0)}


def test_an_aggregation_that_is_no_mean_sees_the_weights_of_all_clients() -> None:
    stage, state = Averaging("s", 2, aggregation=Largest()), {"w": torch.zeros(1)}
    assert stage.sums == ()
    replies = {client: reply_of([value], 1) for client, value in enumerate((3.0, 5.0))}
    assert stage.server_step("train", state, replies)[0]["w"].tolist() == [5.0]


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (reply_of([1.0], 0), "samples is 0; expected a number above 0"),
        (Message({"w": torch.ones(1)}), "samples is None; expected a number above 0"),
        (reply_of([1.0, 2.0], 1), "w is (torch.float32, (2,)); expected (torch.float32, (1,))"),
        (Message({}, {"samples": 1}), "w is left out; expected (torch.float32, (1,))"),
        (reply_of([1.0], 1), ""),
    ],
)
def test_trained_weights_have_a_fault_where_they_cannot_be_averaged(reply: Message, said: str) -> None:
    assert Averaging("s", 1).fault("train", {"w": torch.zeros(1)}, reply) == said


def test_all_clients_get_the_weights_in_every_round() -> None:
    state = {"w": torch.zeros(1)}
    assert Averaging("s", 3).opening(state, 7) == {client: Message(state) for client in range(3)}


def test_there_is_no_mean_of_no_replies() -> None:
    with pytest.raises(InvalidInputError, match=r"replies is \{\}; expected at least one"):
        average({})


def test_samples_whose_sum_is_infinite_are_refused() -> None:
    replies = {client: Message({"w": torch.ones(1)}, {"samples": 1e308}) for client in range(2)}
    with pytest.raises(InvalidInputError, match="samples is inf; expected a finite sum"):
        average(replies)


def test_samples_that_are_a_boolean_count_as_one() -> None:
    replies = {
        0: Message({"w": torch.tensor(5)}, {"samples": True}),
        1: Message({"w": torch.tensor(9)}, {"samples": 3}),
    }
    assert average(replies)["w"] == 8
