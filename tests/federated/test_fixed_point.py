"""Numbers as integers modulo 2^64: how exact their sums are, and what does not fit."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from airmoe.errors import InvalidInputError
from airmoe.federated.fixed_point import BOUNDS, decode, encode, fraction_bits, largest_of


def test_a_value_is_counted_in_steps_and_a_negative_one_lies_in_the_upper_half() -> None:
    # Three clients need two bits above their values: 63 - 2 - 8 = 53 behind the point.
    encoded = encode("w", np.array([1.0, -1.0, 0.0]), bound=8, clients=3)
    assert encoded.tolist() == [2**53, 2**64 - 2**53, 0]


@given(clients=st.integers(3, 1000), bound=st.sampled_from(BOUNDS))
def test_as_many_clients_as_there_are_may_all_have_the_largest_value(clients: int, bound: int) -> None:
    largest = encode("w", np.array([2.0**bound, -(2.0**bound)]), bound, clients)
    total = largest * np.uint64(clients)
    np.testing.assert_array_equal(
        decode(total, bound, clients), [clients * 2.0**bound, -clients * 2.0**bound]
    )
    assert clients * 2 ** (63 - clients.bit_length()) >= 2**62  # and no more than a bit is given away


@given(
    bound=st.sampled_from(BOUNDS[2:-2]),
    below=st.sampled_from((0, 30, 58, 64)),  # of the values below the bound, in bits: the last are half steps
    shape=array_shapes(min_dims=1, max_dims=3, min_side=0),
    clients=st.integers(3, 12),
    seed=st.integers(0, 2**32),
)
def test_a_sum_is_off_by_half_a_step_per_client_at_most(
    bound: int, below: int, shape: tuple[int, ...], clients: int, seed: int
) -> None:
    values = np.random.default_rng(seed).uniform(-1, 1, (clients, *shape)) * 2.0 ** (bound - below)
    total = np.zeros(shape, np.uint64)
    for each in values:
        total += encode("w", each, bound, clients)
    step = 1 / Fraction(2) ** fraction_bits(bound, clients)
    for position in np.ndindex(shape):
        exact = sum((Fraction(float(each[position])) for each in values), Fraction())
        told = int(total.view(np.int64)[position]) * step  # before float64 rounds it
        assert abs(told - exact) <= clients * step / 2
        assert float(decode(total, bound, clients)[position]) == pytest.approx(float(told), rel=2**-53)


@pytest.mark.parametrize(("steps", "told"), [(0.75, 1), (-0.75, -1), (0.25, 0), (7.5, 8), (-6.5, -6)])
def test_a_value_is_told_by_the_nearest_step_halves_by_the_even_one(steps: float, told: int) -> None:
    step = 2.0 ** -fraction_bits(8, 3)
    assert encode("w", np.array([steps * step]), bound=8, clients=3).view(np.int64).tolist() == [told]


@pytest.mark.parametrize("value", [256.5, -256.5, 1e30])
def test_a_value_above_the_bound_is_refused_with_its_tensor(value: float) -> None:
    said = rf"largest value of gate.weight is {abs(value)!r}; expected at most 2\^8, .* 5 clients".replace(
        "+", r"\+"
    )
    with pytest.raises(InvalidInputError, match=said):
        encode("gate.weight", np.array([1.0, value]), bound=8, clients=5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_has_no_integer(value: float) -> None:
    with pytest.raises(InvalidInputError, match=r"largest value of w is (nan|inf); expected finite values"):
        encode("w", np.array([0.0, value]), bound=8, clients=3)


def test_what_no_bound_holds_is_refused() -> None:
    assert largest_of("w", np.array([-(2.0**192)])) == 2.0**192
    with pytest.raises(InvalidInputError, match=r"largest value of w is .*; expected at most 2\^192"):
        largest_of("w", np.array([2.0**193]))


def test_a_tensor_without_values_has_none_that_is_too_large() -> None:
    assert encode("w", np.zeros((0, 3)), bound=-64, clients=3).shape == (0, 3)
