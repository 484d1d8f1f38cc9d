"""From where JESA descends: it never ends above selection over the standing assignment, its own fallback."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from airmoe.links import Links, Ofdma
from airmoe.scheduling import Plan, Selection, allocate_subcarriers, schedule_layer, select_experts
from tests.scheduling.joint.joint_optimum import instance

Rank = tuple[int, float]


def rank(selection: Selection) -> Rank:
    """Return the items that miss their threshold, and J of the others."""
    energy_j = selection.energy_j
    return int((~selection.feasible).sum()), float(energy_j[np.isfinite(energy_j)].sum())


def over_the_standing_assignment(
    scores_TE: NDArray[np.float64],
    source_T: NDArray[np.int64],
    links: Links,
    threshold: float,
    most: int,
    bits: float = 65536,
) -> Rank:
    energy_TE = bits * links.energy_per_bit_j(allocate_subcarriers(links))[source_T]
    return rank(select_experts(scores_TE, energy_TE, threshold, most))


def alike_for_all_links(nodes: int, subcarriers: int, seed: int) -> NDArray[np.float64]:
    """Return gains (N, N, M) under interference that all links share, up to 40 dB of it."""
    rng = np.random.default_rng([seed, 7])
    link_NN1 = rng.exponential(size=(nodes, nodes, 1))
    return np.asarray(link_NN1 * 10 ** rng.uniform(-4, 0, (1, 1, subcarriers)) * 3.98e-12)


def no_dearer(plan: Plan, than: Rank) -> bool:
    """Return whether a plan misses fewer thresholds, or as many for no more energy.

    An item that misses its threshold gets the best scores in reach, and the standing assignment may reach
    fewer experts, for less. So energies are compared where all thresholds are met.
    """
    missed, energy_j = rank(plan.selection)
    return missed < than[0] or (missed == than[0] and (missed > 0 or energy_j <= than[1] * (1 + 1e-12)))


@settings(deadline=None, max_examples=150)
@given(
    nodes=st.integers(2, 6),
    subcarriers=st.integers(1, 40),
    items=st.integers(1, 30),
    seed=st.integers(0, 100_000),
    threshold=st.floats(0, 1),
    most=st.integers(1, 4),
    alike=st.booleans(),
)
def test_jesa_is_never_dearer_than_its_fallback(
    nodes: int, subcarriers: int, items: int, seed: int, threshold: float, most: int, alike: bool
) -> None:
    scores_TE, source_T, gain_NNM = instance(nodes, subcarriers, items, seed)
    if alike:
        gain_NNM = alike_for_all_links(nodes, subcarriers, seed)
    radio = Ofdma(subcarriers=subcarriers)
    plan = schedule_layer(scores_TE, source_T, gain_NNM, radio, threshold=threshold, max_experts=most)
    links = Links.from_gain(gain_NNM, radio)
    assert no_dearer(plan, over_the_standing_assignment(scores_TE, source_T, links, threshold, most))


@pytest.mark.parametrize(
    ("nodes", "subcarriers", "items", "layers", "alike"),
    [(3, 6, 12, 300, False), (3, 2, 12, 150, False), (4, 3, 20, 50, False), (4, 12, 40, 120, True)],
)
def test_not_one_of_many_layers_is_dearer_than_its_fallback(
    nodes: int, subcarriers: int, items: int, layers: int, alike: bool
) -> None:
    """From the relaxation alone .9 % of the first kind were, by up to 1.07 times, and 2.4 % of the last."""
    radio = Ofdma(subcarriers=subcarriers)
    for seed in range(layers):
        scores_TE, source_T, gain_NNM = instance(nodes, subcarriers, items, seed)
        if alike:
            gain_NNM = alike_for_all_links(nodes, subcarriers, seed)
        plan = schedule_layer(scores_TE, source_T, gain_NNM, radio, bound="none")
        links = Links.from_gain(gain_NNM, radio)
        assert no_dearer(plan, over_the_standing_assignment(scores_TE, source_T, links, 0.5, 2)), seed


def test_items_of_one_source_are_no_dearer_either() -> None:
    """The standing assignment gives subcarriers to links that this layer does not schedule."""
    for seed in range(60):
        scores_TE, _, gain_NNM = instance(4, 6, 10, seed)
        source_T, links = np.full(10, seed % 4), Links.from_gain(gain_NNM, Ofdma(subcarriers=6))
        plan = schedule_layer(scores_TE, source_T, gain_NNM, links.radio)
        assert no_dearer(plan, over_the_standing_assignment(scores_TE, source_T, links, 0.5, 2))


def test_where_subcarriers_are_alike_for_all_links_restarts_find_little_more() -> None:
    """Mean over 60 layers; from the relaxation alone it was 1.07 times, and 6 times in one of 250 layers."""
    ratios = []
    for seed in range(60):
        scores_TE, source_T, _ = instance(4, 12, 40, seed)
        gain_NNM = alike_for_all_links(4, 12, seed)
        once, often = (
            schedule_layer(
                scores_TE, source_T, gain_NNM, Ofdma(subcarriers=12), bound="none", restarts=restarts
            )
            for restarts in (0, 20)
        )
        ratios.append(once.energy_j / often.energy_j)
    assert np.mean(ratios) < 1.03
    assert min(ratios) >= 1
