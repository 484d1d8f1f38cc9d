"""Streams are a function of (seed, purpose, indices) and of nothing else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airmoe.randomness import stream, torch_seed

coordinates = st.tuples(
    st.integers(0, 2**40), st.text(max_size=12), st.lists(st.integers(0, 2**20), max_size=3).map(tuple)
)


def first(coordinate: tuple[int, str, tuple[int, ...]]) -> list[int]:
    seed, purpose, indices = coordinate
    return stream(seed, purpose, *indices).integers(2**63, size=2).tolist()


@given(coordinates)
def test_the_same_coordinates_give_the_same_numbers(coordinate: tuple[int, str, tuple[int, ...]]) -> None:
    assert first(coordinate) == first(coordinate)


@pytest.mark.parametrize(
    "other", [(1, "a", (1, 2)), (0, "b", (1, 2)), (0, "a", (2, 1)), (0, "a", (1,)), (0, "a", (1, 2, 3))]
)
def test_every_coordinate_counts(other: tuple[int, str, tuple[int, ...]]) -> None:
    assert first((0, "a", (1, 2))) != first(other)


def test_neighbouring_streams_are_not_correlated() -> None:
    one, other = (stream(0, "test", client).standard_normal(20_000) for client in (0, 1))
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.03


def test_numbers_stay_the_same_from_version_to_version() -> None:
    assert stream(0, "fedce batches", 3, 4).permutation(6).tolist() == [0, 1, 4, 2, 3, 5]
    assert torch_seed(7, "initial weights") == 1442590322817909418


@given(coordinates)
def test_a_torch_seed_has_63_bits(coordinate: tuple[int, str, tuple[int, ...]]) -> None:
    seed, purpose, indices = coordinate
    assert 0 <= torch_seed(seed, purpose, *indices) < 2**63


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="non-negative"):
        stream(-1, "test")
