"""Subcarrier allocation: every link one of its own, for the least energy."""

import itertools
import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from airmoe.errors import InvalidInputError
from airmoe.links import Links, Ofdma, RayleighFading
from airmoe.scheduling import allocate_subcarriers

RADIO = Ofdma(subcarriers=6)
LINKS_OF_3 = [(i, j) for i in range(3) for j in range(3) if i != j]


def cost(links: Links, subcarrier_NN: np.ndarray, load_NN: np.ndarray) -> float:
    energy_NN = links.energy_per_bit_j(subcarrier_NN)
    return float(sum(load_NN[link] * energy_NN[link] for link in LINKS_OF_3))


@pytest.mark.parametrize("seed", range(5))
def test_allocation_is_the_best_of_all_permutations(seed: int) -> None:
    links = RayleighFading(3, RADIO, seed=seed).at(0)
    load_NN = np.random.default_rng(seed).uniform(0, 5, (3, 3))
    best = np.inf
    for permutation in itertools.permutations(range(6)):
        subcarrier_NN = np.full((3, 3), -1)
        for link, subcarrier in zip(LINKS_OF_3, permutation, strict=True):
            subcarrier_NN[link] = subcarrier
        best = min(best, cost(links, subcarrier_NN, load_NN))
    assert cost(links, allocate_subcarriers(links, load_NN), load_NN) == pytest.approx(best, rel=1e-12)


def test_every_directed_link_has_a_subcarrier_of_its_own_and_no_node_to_itself() -> None:
    subcarrier_NN = allocate_subcarriers(RayleighFading(4, Ofdma(subcarriers=16)).at(0))
    assert subcarrier_NN.dtype == np.int64
    assert (np.diag(subcarrier_NN) == -1).all()
    used = subcarrier_NN[~np.eye(4, dtype=bool)]
    assert len(set(used)) == 12
    assert used.min() >= 0
    assert used.max() < 16


def test_the_busier_link_gets_the_subcarrier_both_want() -> None:
    snr_db_NNM = np.zeros((2, 2, 2))
    snr_db_NNM[:, :, 1] = 20.0
    links = Links.from_snr(snr_db_NNM, Ofdma(subcarriers=2))
    assert allocate_subcarriers(links, [[0, 9], [1, 0]]).tolist() == [[-1, 1], [0, -1]]
    assert allocate_subcarriers(links, [[0, 1], [9, 0]]).tolist() == [[-1, 0], [1, -1]]


def test_load_defaults_to_one_on_every_link() -> None:
    links = RayleighFading(3, RADIO).at(1)
    np.testing.assert_array_equal(allocate_subcarriers(links), allocate_subcarriers(links, np.ones((3, 3))))


def test_a_link_without_any_gain_gets_no_subcarrier_and_the_others_do() -> None:
    gain_NNM = RayleighFading(3, RADIO).at(0).gain_NNM.copy()
    gain_NNM[0, 2] = 0.0
    subcarrier_NN = allocate_subcarriers(Links.from_gain(gain_NNM, RADIO))
    assert subcarrier_NN[0, 2] == -1
    assert all(subcarrier_NN[link] >= 0 for link in LINKS_OF_3 if link != (0, 2))


def test_a_link_is_kept_off_subcarriers_where_it_has_no_gain() -> None:
    gain_NNM = RayleighFading(3, RADIO).at(0).gain_NNM.copy()
    gain_NNM[0, 1, :5] = 0.0
    gain_NNM[:, :, 5] *= 1e3  # everyone would rather have the only one that this link can use
    subcarrier_NN = allocate_subcarriers(Links.from_gain(gain_NNM, RADIO))
    assert subcarrier_NN[0, 1] == 5


def test_where_two_links_need_the_same_subcarrier_one_goes_without() -> None:
    gain_NNM = np.zeros((2, 2, 2))
    gain_NNM[:, :, 0] = 1.0
    subcarrier_NN = allocate_subcarriers(Links.from_gain(gain_NNM, Ofdma(subcarriers=2)))
    assert sorted([subcarrier_NN[0, 1], subcarrier_NN[1, 0]]) == [-1, 0]


def test_a_single_node_has_no_links() -> None:
    assert allocate_subcarriers(Links.from_snr(0.0, RADIO, nodes=1)).tolist() == [[-1]]


def test_with_too_few_subcarriers_the_links_that_are_missed_least_go_without() -> None:
    links = RayleighFading(3, Ofdma(subcarriers=4), seed=2).at(0)
    load_NN = np.array([[0, 9, 1], [8, 0, 0], [7, 6, 0]])
    subcarrier_NN = allocate_subcarriers(links, load_NN)
    assert sorted(subcarrier_NN[subcarrier_NN >= 0]) == [0, 1, 2, 3]
    assert subcarrier_NN[0, 2] == subcarrier_NN[1, 2] == -1


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("subcarriers", [1, 7, 40, 89])
def test_too_few_subcarriers_go_where_they_save_most(seed: int, subcarriers: int) -> None:
    links = RayleighFading(10, Ofdma(subcarriers=subcarriers), seed=seed).at(0)
    source_L, target_L = np.nonzero(~np.eye(10, dtype=bool))
    price_LM = links.radio.energy_per_bit_j(links.gain_NNM[source_L, target_L])
    without_LX = np.full((90, 90 - subcarriers), price_LM.max())  # a column for each link that gets none
    padded_LL = np.hstack([price_LM, without_LX])
    row_L, column_L = linear_sum_assignment(padded_LL)
    subcarrier_L = allocate_subcarriers(links)[source_L, target_L]
    served = subcarrier_L >= 0
    spent = price_LM[served, subcarrier_L[served]].sum() + price_LM.max() * np.sum(~served)
    assert spent == pytest.approx(padded_LL[row_L, column_L].sum(), rel=1e-12)
    assert len(set(subcarrier_L[served])) == np.sum(served) == subcarriers


@pytest.mark.parametrize("load_NN", [None, np.random.default_rng(0).uniform(1, 2, (100, 100))])
def test_a_hundred_nodes_need_no_column_for_every_link_that_gets_none(
    load_NN: NDArray[np.float64] | None,
) -> None:
    links = RayleighFading(100, Ofdma(subcarriers=20)).at(0)
    tracemalloc.start()
    assert np.sum(allocate_subcarriers(links, load_NN) >= 0) == 20
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 30e6  # a square of all 9,900 links has 784 MB


@pytest.mark.parametrize("spread", [0, 3, 12])
@pytest.mark.parametrize("subcarriers", [1, 7, 20])
def test_unequal_loads_are_assigned_as_with_a_column_for_every_link_that_gets_none(
    subcarriers: int, spread: int
) -> None:
    """Also what links with little load pay is the same, however far loads lie apart."""
    links = RayleighFading(5, Ofdma(subcarriers=subcarriers), seed=spread).at(0)
    source_L, target_L = np.nonzero(~np.eye(5, dtype=bool))
    price_LM = links.radio.energy_per_bit_j(links.gain_NNM[source_L, target_L])
    load_L = 10 ** -np.random.default_rng(subcarriers).uniform(0, spread, 20)
    load_NN = np.zeros((5, 5))
    load_NN[source_L, target_L] = load_L
    cost_LM, without_L = load_L[:, None] * price_LM, load_L * price_LM.max()
    padded_LL = np.hstack([cost_LM, np.repeat(without_L[:, None], 20 - subcarriers, axis=1)])
    detour_LL = padded_LL - padded_LL.min(axis=1, keepdims=True)
    row_L, column_L = linear_sum_assignment(detour_LL)
    subcarrier_L = allocate_subcarriers(links, load_NN)[source_L, target_L]
    detour_L = np.where(subcarrier_L >= 0, detour_LL[row_L, subcarrier_L], detour_LL[:, -1])
    assert detour_L.sum() <= detour_LL[row_L, column_L].sum() * (1 + 1e-12)
    assert len(set(subcarrier_L[subcarrier_L >= 0])) == np.sum(subcarrier_L >= 0) == subcarriers


def test_going_without_counts_as_the_worst_subcarrier_of_all() -> None:
    links = RayleighFading(3, Ofdma(subcarriers=4), seed=3).at(0)
    load_NN = np.random.default_rng(3).uniform(1, 2, (3, 3))
    worst = max(links.radio.energy_per_bit_j(links.gain_NNM[link]).max() for link in LINKS_OF_3)

    def counted(subcarrier_NN: np.ndarray) -> float:
        energy_NN = np.minimum(links.energy_per_bit_j(subcarrier_NN), worst)
        return float(sum(load_NN[link] * energy_NN[link] for link in LINKS_OF_3))

    best = np.inf
    for served in itertools.permutations(range(6), 4):
        subcarrier_NN = np.full((3, 3), -1)
        for subcarrier, link in enumerate(served):
            subcarrier_NN[LINKS_OF_3[link]] = subcarrier
        best = min(best, counted(subcarrier_NN))
    assert counted(allocate_subcarriers(links, load_NN)) == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_an_impossible_load_is_named_with_its_index(value: float) -> None:
    load_NN = np.ones((3, 3))
    load_NN[2, 0] = value
    with pytest.raises(InvalidInputError, match=r"load_NN\[2, 0\]"):
        allocate_subcarriers(RayleighFading(3, RADIO).at(0), load_NN)


def test_a_load_of_another_shape_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="shape of load_NN"):
        allocate_subcarriers(RayleighFading(3, RADIO).at(0), np.ones((2, 2)))
