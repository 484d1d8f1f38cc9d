"""Expert selection against independent oracles, and properties that hold for any exact solution."""

import itertools
import math

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp

from airmoe.scheduling import select_experts
from tests.scheduling.instances import (
    HARD,
    Family,
    Floats,
    reference,
    strongly_correlated,
    subset_sum,
    with_ties,
)


def least_energy(scores_E: Floats, energy_E: Floats, threshold: float, max_experts: int) -> float | None:
    """Try all sets; None if no set of reachable experts suffices."""
    reachable = np.flatnonzero(np.isfinite(energy_E))
    costs = [
        energy_E[list(experts)].sum()
        for size in range(1, max_experts + 1)
        for experts in itertools.combinations(reachable, size)
        if scores_E[list(experts)].sum() >= threshold - 1e-9
    ]
    return min(costs, default=None)


@pytest.mark.parametrize("family", [reference, with_ties, *HARD])
@pytest.mark.parametrize("max_experts", [1, 2, 3, 4, 5])
def test_energy_is_that_of_the_best_of_all_sets(family: Family, max_experts: int) -> None:
    rng = np.random.default_rng(max_experts)
    for experts in (1, 2, 3, 5, 8):
        scores_TE, energy_TE, threshold_T = family(rng, 20, experts, max_experts)
        selection = select_experts(scores_TE, energy_TE, threshold_T, max_experts)
        for item in range(20):
            best = least_energy(scores_TE[item], energy_TE[item], threshold_T[item], max_experts)
            assert selection.feasible[item] == (best is not None)
            if best is not None:
                assert selection.energy_j[item] == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("family", [reference, with_ties, *HARD])
@pytest.mark.parametrize("max_experts", [1, 2, 3, 6])
def test_the_set_returned_is_within_the_rules_and_costs_what_is_said(
    family: Family, max_experts: int
) -> None:
    scores_TE, energy_TE, threshold_T = family(np.random.default_rng(9), 300, 16, max_experts)
    selection = select_experts(scores_TE, energy_TE, threshold_T, max_experts)
    size_T = selection.mask.sum(axis=1)
    assert size_T.max() <= max_experts
    assert size_T.min() >= 1
    assert np.isfinite(energy_TE[selection.mask]).all()
    spent_T = np.where(selection.mask, energy_TE, 0.0).sum(axis=1)
    np.testing.assert_allclose(selection.energy_j, spent_T, rtol=1e-12)
    sum_T = np.where(selection.mask, scores_TE, 0.0).sum(axis=1)
    np.testing.assert_array_equal(selection.feasible, sum_T >= threshold_T - 1e-9 - 1e-15)


def milp_energy(scores_E: Floats, energy_E: Floats, threshold: float, max_experts: int) -> float:
    """Solve P1 with HiGHS, whose absolute gap of 1e-6 asks for energies near 1; recompute the energy."""
    rows = LinearConstraint(
        np.vstack([scores_E, np.ones_like(scores_E)]), [threshold, 1], [np.inf, max_experts]
    )
    bounds, integers = Bounds(0, 1), np.ones_like(scores_E)
    solution = milp(energy_E / energy_E.mean(), constraints=rows, bounds=bounds, integrality=integers)
    return float(energy_E[solution.x > 0.5].sum())


@pytest.mark.parametrize(("experts", "max_experts"), [(12, 3), (16, 5), (24, 4), (32, 2), (32, 6)])
def test_energy_is_no_more_than_that_of_an_integer_program_solver(experts: int, max_experts: int) -> None:
    scores_TE, energy_TE, threshold_T = reference(np.random.default_rng(experts), 15, experts, max_experts)
    selection = select_experts(scores_TE, energy_TE, threshold_T, max_experts)
    assert selection.feasible.all()
    for item in range(15):
        oracle = milp_energy(scores_TE[item], energy_TE[item], threshold_T[item], max_experts)
        assert selection.energy_j[item] <= oracle + 1e-9
        assert selection.energy_j[item] >= oracle * (1 - 1e-5)  # the solver stops within its gap


@pytest.mark.parametrize("family", [strongly_correlated, subset_sum])
def test_hard_instances_agree_with_a_list_of_all_sets(family: Family) -> None:
    """All sets of 14 experts at once: an oracle without bounds, at a size where bounds matter."""
    member_SE = (np.arange(2**14)[:, np.newaxis] >> np.arange(14)) & 1
    size_S = member_SE.sum(axis=1)
    scores_TE, energy_TE, threshold_T = family(np.random.default_rng(4), 20, 14, 6)
    selection = select_experts(scores_TE, energy_TE, threshold_T, 6)
    for item in range(20):
        enough_S = (member_SE @ scores_TE[item] >= threshold_T[item] - 1e-9) & (size_S >= 1) & (size_S <= 6)
        best = (member_SE @ energy_TE[item])[enough_S].min()
        assert selection.energy_j[item] == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("max_experts", [1, 2])
@pytest.mark.parametrize("experts", [2, 3, 31, 32, 33, 64])
@pytest.mark.parametrize("family", [reference, with_ties, *HARD])
def test_up_to_two_experts_the_best_of_all_pairs_is_found(
    family: Family, experts: int, max_experts: int
) -> None:
    scores_TE, energy_TE, threshold_T = family(np.random.default_rng(3), 30, experts, max_experts)
    selection = select_experts(scores_TE, energy_TE, threshold_T, max_experts)
    one_E, other_E = np.triu_indices(experts)  # a pair of an expert and itself is the expert alone
    if max_experts == 1:
        one_E = other_E = np.arange(experts)
    alone_E = one_E == other_E
    for item in range(30):
        score_S = scores_TE[item, one_E] + np.where(alone_E, 0.0, scores_TE[item, other_E])
        energy_S = energy_TE[item, one_E] + np.where(alone_E, 0.0, energy_TE[item, other_E])
        enough_S = (score_S >= threshold_T[item] - 1e-9) & np.isfinite(energy_S)
        assert selection.feasible[item] == enough_S.any()
        if enough_S.any():
            assert selection.energy_j[item] == pytest.approx(energy_S[enough_S].min(), rel=1e-12, abs=0.0)
            assert energy_TE[item, selection.mask[item]].sum() == pytest.approx(selection.energy_j[item])
            assert scores_TE[item, selection.mask[item]].sum() >= threshold_T[item] - 1e-9 - 1e-15


@pytest.mark.parametrize(("experts", "max_experts", "sets"), [(16, 8, 39_202), (64, 8, 5_130_659_560)])
def test_the_search_visits_few_of_all_sets(experts: int, max_experts: int, sets: int) -> None:
    assert sum(math.comb(experts, size) for size in range(1, max_experts + 1)) == sets
    instances = reference(np.random.default_rng(5), 2000, experts, max_experts)
    nodes_T = select_experts(*instances, max_experts).search_nodes
    assert np.median(nodes_T) < 50
    assert nodes_T.max() < 2000


def test_bounds_are_not_fooled_by_energies_of_very_different_sizes() -> None:
    rng = np.random.default_rng(6)
    scores_TE = rng.dirichlet(np.ones(8), 200)
    energy_TE = 10.0 ** rng.uniform(-15, 6, (200, 8))
    selection = select_experts(scores_TE, energy_TE, 0.6, 4)
    for item in range(200):
        best = least_energy(scores_TE[item], energy_TE[item], 0.6, 4)
        assert best is None or selection.energy_j[item] == pytest.approx(best, rel=1e-9)


# Few distinct values make ties, zeros and unreachable experts common.
SCORES = st.one_of(st.sampled_from([0.0, 0.125, 0.25, 0.5]), st.floats(0, 1))
ENERGIES = st.one_of(st.sampled_from([0.0, 1.0, 2.0, np.inf]), st.floats(1e-9, 1e3))


@st.composite
def problems(draw: st.DrawFn) -> tuple[Floats, Floats, float, int]:
    experts = draw(st.integers(1, 9))
    scores_TE = draw(hnp.arrays(np.float64, (1, experts), elements=SCORES))
    energy_TE = draw(hnp.arrays(np.float64, (1, experts), elements=ENERGIES))
    return scores_TE, energy_TE, draw(st.floats(0, 1)), draw(st.integers(1, 6))


@settings(deadline=None, max_examples=150)
@given(problems())
def test_energy_is_least_whatever_the_instance(problem: tuple[Floats, Floats, float, int]) -> None:
    scores_TE, energy_TE, threshold, max_experts = problem
    selection = select_experts(*problem)
    best = least_energy(scores_TE[0], energy_TE[0], threshold, max_experts)
    if best is not None:
        assert selection.feasible[0]
        assert selection.energy_j[0] == pytest.approx(best, rel=1e-9)


@settings(deadline=None, max_examples=150)
@given(problems(), st.data())
def test_dearer_experts_never_lower_the_energy(
    problem: tuple[Floats, Floats, float, int], data: st.DataObject
) -> None:
    scores_TE, energy_TE, threshold, max_experts = problem
    added_TE = data.draw(hnp.arrays(np.float64, energy_TE.shape, elements=ENERGIES))
    before = select_experts(*problem)
    after = select_experts(scores_TE, energy_TE + added_TE, threshold, max_experts)
    if after.feasible[0]:
        assert before.feasible[0]
        assert after.energy_j[0] >= before.energy_j[0] * (1 - 1e-9)


@settings(deadline=None, max_examples=150)
@given(problems(), st.data())
def test_relabelling_the_experts_changes_neither_energy_nor_search(
    problem: tuple[Floats, Floats, float, int], data: st.DataObject
) -> None:
    scores_TE, energy_TE, threshold, max_experts = problem
    order_E = np.array(data.draw(st.permutations(range(scores_TE.shape[1]))))
    before = select_experts(*problem)
    after = select_experts(scores_TE[:, order_E], energy_TE[:, order_E], threshold, max_experts)
    assert after.energy_j[0] == before.energy_j[0]
    assert after.feasible[0] == before.feasible[0]
    assert after.search_nodes[0] == before.search_nodes[0]


@settings(deadline=None, max_examples=150)
@given(problems(), st.floats(0, 1))
def test_raising_the_threshold_never_lowers_the_energy(
    problem: tuple[Floats, Floats, float, int], raised: float
) -> None:
    scores_TE, energy_TE, threshold, max_experts = problem
    low, high = sorted([threshold, raised])
    asked_less = select_experts(scores_TE, energy_TE, low, max_experts)
    asked_more = select_experts(scores_TE, energy_TE, high, max_experts)
    if asked_more.feasible[0]:
        assert asked_less.feasible[0]
        assert asked_more.energy_j[0] >= asked_less.energy_j[0] * (1 - 1e-9)


@settings(deadline=None, max_examples=150)
@given(problems())
def test_allowing_more_experts_never_raises_the_energy(problem: tuple[Floats, Floats, float, int]) -> None:
    scores_TE, energy_TE, threshold, max_experts = problem
    few = select_experts(*problem)
    more = select_experts(scores_TE, energy_TE, threshold, max_experts + 1)
    if few.feasible[0]:
        assert more.feasible[0]
        assert more.energy_j[0] <= few.energy_j[0] * (1 + 1e-9)


@settings(deadline=None, max_examples=150)
@given(problems(), st.data())
def test_one_more_reachable_expert_never_raises_the_energy(
    problem: tuple[Floats, Floats, float, int], data: st.DataObject
) -> None:
    scores_TE, energy_TE, threshold, max_experts = problem
    place = data.draw(st.integers(0, scores_TE.shape[1]))
    score, energy = data.draw(SCORES), data.draw(ENERGIES)
    before = select_experts(*problem)
    after = select_experts(
        np.insert(scores_TE, place, score, axis=1),
        np.insert(energy_TE, place, energy, axis=1),
        threshold,
        max_experts,
    )
    if before.feasible[0]:
        assert after.feasible[0]
        assert after.energy_j[0] <= before.energy_j[0] * (1 + 1e-9)


@settings(deadline=None, max_examples=150)
@given(problems(), st.integers(-300, 300))
def test_energies_in_another_unit_give_the_same_energy_in_that_unit(
    problem: tuple[Floats, Floats, float, int], exponent: int
) -> None:
    scores_TE, energy_TE, threshold, max_experts = problem
    before = select_experts(*problem)
    after = select_experts(scores_TE, energy_TE * 2.0**exponent, threshold, max_experts)
    assert after.energy_j[0] == pytest.approx(before.energy_j[0] * 2.0**exponent, rel=1e-9, abs=0.0)
    assert after.feasible[0] == before.feasible[0]


@settings(deadline=None, max_examples=150)
@given(problems())
def test_a_score_above_the_threshold_is_worth_as_much_as_the_threshold(
    problem: tuple[Floats, Floats, float, int],
) -> None:
    scores_TE, energy_TE, threshold, max_experts = problem
    before = select_experts(*problem)
    after = select_experts(np.minimum(scores_TE, threshold), energy_TE, threshold, max_experts)
    assert after.energy_j[0] == pytest.approx(before.energy_j[0], rel=1e-9, abs=0.0)
    assert after.feasible[0] == before.feasible[0]


def test_the_same_input_gives_the_same_set_alone_and_in_a_batch() -> None:
    scores_TE, energy_TE, threshold_T = with_ties(np.random.default_rng(7), 100, 12, 4)
    batch = select_experts(scores_TE, energy_TE, threshold_T, 4)
    for item in range(100):
        row = slice(item, item + 1)
        alone = select_experts(scores_TE[row], energy_TE[row], threshold_T[row], 4)
        np.testing.assert_array_equal(alone.mask, batch.mask[row])
