"""Items that the quick search gives up: solved exactly, honest within a budget, the same on any cores."""

import os
import threading
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from airmoe.scheduling import Selection, select_experts
from airmoe.scheduling.selection import select as selection
from tests.scheduling.instances import (
    HARD,
    Family,
    Floats,
    Instances,
    inverse_strongly_correlated,
    reference,
    strongly_correlated,
    subset_sum,
    weakly_correlated,
    with_ties,
)

HARDEST: list[Family] = [inverse_strongly_correlated, subset_sum]
COUNT_S = np.bitwise_count(np.arange(2**18)).astype(np.int64)  # how many members a set of numbers has


@pytest.fixture
def barely_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the quick search so little that what follows has to prove nearly every item."""
    monkeypatch.setattr(selection, "QUICK_NODES", 1)


def sums_of_all_sets(values_E: Floats) -> Floats:
    """Return the sum of each set; bit j of a set's index says whether j is a member."""
    sums_S = np.zeros(1)
    for value in values_E:
        sums_S = np.concatenate([sums_S, sums_S + value])
    return sums_S


def least_of_all_sets(scores_E: Floats, energy_E: Floats, threshold: float, max_experts: int) -> float:
    """List all sets of up to 18 experts: an oracle without bounds."""
    count_S = COUNT_S[: 2**scores_E.size]
    enough_S = sums_of_all_sets(scores_E) >= threshold - 1e-9
    return float(sums_of_all_sets(energy_E)[enough_S & (count_S >= 1) & (count_S <= max_experts)].min())


def least_of_two_halves(scores_E: Floats, energy_E: Floats, threshold: float, max_experts: int) -> float:
    """List all sets of either half: each asks for the cheapest of the other half that scores the rest."""
    half = scores_E.size // 2
    one_score, one_energy = sums_of_all_sets(scores_E[:half]), sums_of_all_sets(energy_E[:half])
    other_score, other_energy = sums_of_all_sets(scores_E[half:]), sums_of_all_sets(energy_E[half:])
    order = np.argsort(-other_score)
    best = np.inf
    for count in range(max_experts + 1):
        one = COUNT_S[: one_score.size] == count
        other = order[COUNT_S[order] <= max_experts - count]
        cheapest = np.minimum.accumulate(other_energy[other])  # of those that score so much or more
        reach = np.searchsorted(-other_score[other], one_score[one] - (threshold - 1e-9), side="right")
        found = one_energy[one][reach > 0] + cheapest[reach[reach > 0] - 1]
        best = min(best, found.min(initial=np.inf))
    return best


def assert_each_row_is_within_the_rules(selection: Selection, instances: Instances, max_experts: int) -> None:
    scores_TE, energy_TE, threshold_T = instances
    size_T = selection.mask.sum(axis=1)
    assert size_T.min() >= 1
    assert size_T.max() <= max_experts
    assert selection.feasible.all()
    assert (np.where(selection.mask, scores_TE, 0.0).sum(axis=1) >= threshold_T - 1e-9 - 1e-15).all()
    spent_T = np.where(selection.mask, energy_TE, 0.0).sum(axis=1)
    np.testing.assert_allclose(selection.energy_j, spent_T, rtol=1e-12)


def assert_alike(one: Selection, other: Selection) -> None:
    for name in ("mask", "energy_j", "feasible", "search_nodes", "gap_j"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def assert_all_are_proven_and_least(instances: Instances, max_experts: int) -> None:
    selection = select_experts(*instances, max_experts)
    assert_each_row_is_within_the_rules(selection, instances, max_experts)
    assert selection.gap_j.max() == 0.0
    for item, row in enumerate(zip(*instances, strict=True)):
        assert selection.energy_j[item] == pytest.approx(least_of_all_sets(*row, max_experts), rel=1e-9)


@pytest.mark.parametrize("max_experts", [3, 5, 9])
@pytest.mark.parametrize("family", HARD)
def test_hard_families_agree_with_a_list_of_all_sets(family: Family, max_experts: int) -> None:
    assert_all_are_proven_and_least(
        family(np.random.default_rng(max_experts), 12, 18, max_experts), max_experts
    )


@pytest.mark.usefixtures("barely_quick")
@pytest.mark.parametrize("max_experts", [3, 5, 9])
@pytest.mark.parametrize("family", [*HARD, reference])
def test_what_the_quick_search_gives_up_agrees_with_a_list_of_all_sets(
    family: Family, max_experts: int
) -> None:
    assert_all_are_proven_and_least(
        family(np.random.default_rng(max_experts), 12, 18, max_experts), max_experts
    )


@pytest.mark.usefixtures("barely_quick")
@pytest.mark.parametrize("max_experts", [3, 4, 6])
def test_ties_and_unreachable_experts_are_no_trouble_beyond_the_quick_search(max_experts: int) -> None:
    scores_TE, energy_TE, threshold_T = with_ties(np.random.default_rng(max_experts), 60, 12, max_experts)
    selection = select_experts(scores_TE, energy_TE, threshold_T, max_experts)
    assert selection.feasible.sum() > 30
    assert selection.gap_j.max() == 0.0
    assert not selection.mask[np.isinf(energy_TE)].any()
    for item in np.flatnonzero(selection.feasible):
        best = least_of_all_sets(scores_TE[item], energy_TE[item], threshold_T[item], max_experts)
        assert selection.energy_j[item] == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("quick_nodes", [1, 300])
@pytest.mark.parametrize("family", HARDEST)
def test_the_hardest_families_are_solved_among_32_experts(
    family: Family, quick_nodes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "QUICK_NODES", quick_nodes)
    instances = family(np.random.default_rng(8), 12, 32, 8)
    found = select_experts(*instances, 8)
    assert_each_row_is_within_the_rules(found, instances, 8)
    assert found.gap_j.max() == 0.0
    assert found.search_nodes.max() > 5000  # so the halves were matched
    for item, row in enumerate(zip(*instances, strict=True)):
        assert found.energy_j[item] == pytest.approx(least_of_two_halves(*row, 8), rel=1e-9)


@pytest.mark.parametrize("exponent", [-250, -40, 40, 250])
@pytest.mark.parametrize("family", [*HARD, reference])
@pytest.mark.parametrize(("experts", "max_experts"), [(32, 6), (32, 2), (40, 2)])
def test_energies_in_another_unit_give_the_same_sets_and_search(
    family: Family, exponent: int, experts: int, max_experts: int
) -> None:
    """A power of two changes no digit, so nothing may differ."""
    scores_TE, energy_TE, threshold_T = family(np.random.default_rng(4), 20, experts, max_experts)
    expected = select_experts(scores_TE, energy_TE, threshold_T, max_experts)
    found = select_experts(scores_TE, energy_TE * 2.0**exponent, threshold_T, max_experts)
    np.testing.assert_array_equal(found.energy_j, expected.energy_j * 2.0**exponent)
    np.testing.assert_array_equal(found.mask, expected.mask)
    np.testing.assert_array_equal(found.search_nodes, expected.search_nodes)


@pytest.mark.parametrize("family", HARD)
def test_both_oracles_agree(family: Family) -> None:
    for row in zip(*family(np.random.default_rng(1), 5, 16, 5), strict=True):
        assert least_of_two_halves(*row, 5) == pytest.approx(least_of_all_sets(*row, 5), rel=1e-12)


@pytest.mark.parametrize("all_sizes", [False, True])
@pytest.mark.parametrize("family", [*HARD, reference])
def test_halves_that_were_listed_in_full_hold_the_best_set_of_so_many(
    family: Family, all_sizes: bool
) -> None:
    from airmoe.scheduling.selection.halves import match_halves

    rng = np.random.default_rng(2)
    in_full = in_part = 0
    chosen_D = np.empty(7, np.int64)
    for row in zip(*family(rng, 8, 14, 6), strict=True):
        order = np.lexsort((row[1], -row[0]))
        scores_K, energy_K, need = row[0][order], row[1][order], row[2] - 1e-9
        score_S, energy_S = sums_of_all_sets(scores_K), sums_of_all_sets(energy_K)
        for left in range(2, 8):
            best = energy_S[(COUNT_S[: 2**14] == left) & (score_S >= need)].min(initial=np.inf)
            for most_sets in (5, 20, 35, 50, 80, 1000):
                whole, found, _ = match_halves(
                    scores_K, energy_K, need, left, np.inf, 0.0, 1.0, most_sets, all_sizes, 0, chosen_D
                )
                in_full, in_part = in_full + whole, in_part + (not whole)
                assert found >= best * (1 - 1e-12)
                assert not whole or found == pytest.approx(best, rel=1e-9)
                if found < np.inf:
                    members = np.unique(chosen_D[:left])
                    assert members.size == left
                    assert scores_K[members].sum() >= need - 1e-15
                    assert energy_K[members].sum() == pytest.approx(found, rel=1e-12)
    assert in_full > 20 or not all_sizes  # the balanced halves alone are never all
    assert in_part > 20


# Within a budget.


def test_a_small_budget_leaves_a_sufficient_set_and_says_how_far_it_may_be_off() -> None:
    instances = subset_sum(np.random.default_rng(3), 20, 64, 8)
    hurried = select_experts(*instances, 8, node_budget=50)
    patient = select_experts(*instances, 8, node_budget=2_000_000)
    assert_each_row_is_within_the_rules(hurried, instances, 8)
    assert_each_row_is_within_the_rules(patient, instances, 8)
    assert (hurried.gap_j > 0).sum() > 10
    assert (patient.gap_j == 0).sum() > 10
    assert (hurried.search_nodes <= 60).all()
    # A lower bound of the optimum is below all sets, and the optimum is no dearer than any.
    assert (hurried.energy_j - hurried.gap_j <= patient.energy_j * (1 + 1e-9)).all()
    assert (patient.energy_j - patient.gap_j <= hurried.energy_j * (1 + 1e-9)).all()
    # All items have much the same bound from the start: near the threshold, since energies equal scores.
    assert (hurried.gap_j < 0.1 * hurried.energy_j).all()


@pytest.mark.usefixtures("barely_quick")
@pytest.mark.parametrize("node_budget", [1, 3, 30, 300, 1060, 1150, 3000])
@pytest.mark.parametrize("family", [weakly_correlated, strongly_correlated, *HARDEST])
def test_whatever_the_budget_the_optimum_lies_within_the_gap(family: Family, node_budget: int) -> None:
    instances = family(np.random.default_rng(5), 15, 18, 8)
    found = select_experts(*instances, 8, node_budget=node_budget)
    assert_each_row_is_within_the_rules(found, instances, 8)
    for item, row in enumerate(zip(*instances, strict=True)):
        best = least_of_all_sets(*row, 8)
        assert found.energy_j[item] >= best * (1 - 1e-9)
        assert found.energy_j[item] - found.gap_j[item] <= best * (1 + 1e-9)


def test_a_larger_budget_proves_more() -> None:
    instances = inverse_strongly_correlated(np.random.default_rng(6), 20, 32, 8)
    proven = [
        int((select_experts(*instances, 8, node_budget=budget).gap_j == 0).sum())
        for budget in (10, 3000, 1_000_000)
    ]
    assert proven[0] < proven[1] < proven[2] == 20


@pytest.mark.parametrize("node_budget", [1, 20, 299, 300, 301, 1000, 5000, 40_000])
def test_the_nodes_stay_near_the_budget(node_budget: int) -> None:
    found = select_experts(*subset_sum(np.random.default_rng(7), 10, 64, 8), 8, node_budget=node_budget)
    # One listing of two halves may take as much as is left for each of them.
    most = node_budget if node_budget <= 1000 else 2 * node_budget + 2
    assert found.search_nodes.max() <= most
    assert found.search_nodes.max() >= node_budget
    assert found.gap_j.max() > 0


@pytest.mark.parametrize("max_experts", [1, 2])
def test_up_to_two_experts_everything_is_proven_whatever_the_budget(max_experts: int) -> None:
    instances = subset_sum(np.random.default_rng(8), 20, 64, max_experts)
    assert_alike(
        select_experts(*instances, max_experts, node_budget=1), select_experts(*instances, max_experts)
    )
    assert select_experts(*instances, max_experts, node_budget=1).gap_j.max() == 0.0


def test_a_budget_that_suffices_changes_nothing() -> None:
    instances = reference(np.random.default_rng(9), 200, 16, 4)
    assert_alike(select_experts(*instances, 4, node_budget=10_000), select_experts(*instances, 4))


# On all cores.


def solved_in_parts(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[Any, ...], cores: int, parallel_entries: int
) -> tuple[Selection, list[tuple[int, int]]]:
    """Return the selection, and for each part that was solved its thread and its number of items."""
    parts: list[tuple[int, int]] = []
    solve_rows = selection._solve_rows

    def recorded(scores_TE: NDArray[np.float64], *others: Any) -> None:
        parts.append((threading.get_ident(), len(scores_TE)))
        solve_rows(scores_TE, *others)

    with monkeypatch.context() as patch:
        patch.setattr(selection, "_solve_rows", recorded)
        patch.setattr(selection, "PARALLEL_ENTRIES", parallel_entries)
        patch.setattr(os, "sched_getaffinity", lambda _process: set(range(cores)), raising=False)
        return select_experts(*arguments), parts


def a_large_batch() -> Instances:
    """More than 200,000 scores of 16 experts, some of them hard, some unreachable."""
    rng = np.random.default_rng(10)
    few = [family(rng, 400, 16, 6) for family in HARD]
    many = [reference(rng, 9000, 16, 6), with_ties(rng, 1703, 16, 6)]
    scores_TE, energy_TE, threshold_T = (np.concatenate(arrays) for arrays in zip(*few, *many, strict=True))
    shuffled_T = rng.permutation(len(threshold_T))
    assert scores_TE.size > 200_000
    return scores_TE[shuffled_T], energy_TE[shuffled_T], threshold_T[shuffled_T]


@pytest.mark.parametrize("cores", [2, 3, 7])
def test_a_large_batch_on_many_cores_equals_the_same_batch_on_one(
    cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = (*a_large_batch(), 6)
    default = selection.PARALLEL_ENTRIES
    together, parts = solved_in_parts(monkeypatch, batch, cores, default)
    alone, whole = solved_in_parts(monkeypatch, batch, cores, 10**9)
    single, one_core = solved_in_parts(monkeypatch, batch, 1, default)
    items = len(batch[0])
    assert [size for _, size in whole] == [size for _, size in one_core] == [items]
    assert len(parts) >= 4 * cores
    assert sum(size for _, size in parts) == items
    assert threading.get_ident() not in {thread for thread, _ in parts}
    assert (together.search_nodes > selection.QUICK_NODES).sum() > 100  # hard items in many parts
    assert_alike(together, alone)
    assert_alike(single, alone)


def test_a_small_batch_needs_no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = (*reference(np.random.default_rng(11), 1000, 16, 3), 3)
    _, parts = solved_in_parts(monkeypatch, batch, 4, selection.PARALLEL_ENTRIES)
    assert parts == [(threading.get_ident(), 1000)]


@pytest.mark.parametrize("parallel_entries", [1, 10**9])
def test_energies_shared_by_all_items_equal_each_items_own(
    parallel_entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(12)
    scores_TE, energy_TE, threshold_T = subset_sum(rng, 300, 18, 6)
    scores_TE[1::2] = scores_TE[0]  # the energies are hard for these items, and easy for the others
    shared, own = (
        solved_in_parts(monkeypatch, (scores_TE, energy, threshold_T, 6), 2, parallel_entries)[0]
        for energy in (energy_TE[0], np.tile(energy_TE[0], (300, 1)))
    )
    assert_alike(shared, own)
    assert (shared.search_nodes > selection.QUICK_NODES).any()


def test_fewer_items_than_parts_are_all_solved(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = (*reference(np.random.default_rng(13), 3, 16, 3), 3)
    together, parts = solved_in_parts(monkeypatch, batch, 4, 1)
    assert [size for _, size in sorted(parts, key=lambda part: part[1])] == [1, 1, 1]
    assert_alike(together, select_experts(*batch))
