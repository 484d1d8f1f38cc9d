"""The rules of expert selection (P1), one by one."""

import numpy as np
import pytest

from airmoe.errors import InvalidInputError
from airmoe.scheduling import Selection, select_experts

INF = np.inf
CAPS = [1, 2, 3, 5]  # enumeration up to 2, branch and bound beyond


def chosen(selection: Selection) -> list[int]:
    return np.flatnonzero(selection.mask[0]).tolist()


def test_the_cheapest_sufficient_set_is_taken() -> None:
    # {0} costs 5, {1, 2} costs 4 and {1, 3} costs 3 but sums to .4 only.
    selection = select_experts([[0.5, 0.3, 0.2, 0.1]], [5.0, 2.0, 2.0, 1.0], threshold=0.5)
    assert chosen(selection) == [1, 2]
    assert selection.energy_j[0] == 4.0
    assert selection.feasible[0]


def test_the_cap_on_experts_binds() -> None:
    scores, energy = [[0.4, 0.2, 0.2, 0.2]], [9.0, 1.0, 1.0, 1.0]
    assert chosen(select_experts(scores, energy, threshold=0.6, max_experts=3)) == [1, 2, 3]
    assert 0 in chosen(select_experts(scores, energy, threshold=0.6, max_experts=2))


def test_default_is_half_of_the_score_from_at_most_two_experts() -> None:
    scores, energy = np.random.default_rng(0).dirichlet(np.ones(6), 50), np.arange(1.0, 7.0)
    np.testing.assert_array_equal(
        select_experts(scores, energy).mask, select_experts(scores, energy, threshold=0.5, max_experts=2).mask
    )


@pytest.mark.parametrize("max_experts", CAPS)
def test_a_sum_that_misses_the_threshold_by_the_tolerance_is_enough(max_experts: int) -> None:
    scores, energy = [[0.5 - 0.9e-9, 0.5]], [1.0, 2.0]
    assert chosen(select_experts(scores, energy, 0.5, max_experts)) == [0]


@pytest.mark.parametrize("max_experts", CAPS)
def test_a_sum_that_misses_the_threshold_by_more_is_not(max_experts: int) -> None:
    scores, energy = [[0.5 - 1.1e-9, 0.5]], [1.0, 2.0]
    assert chosen(select_experts(scores, energy, 0.5, max_experts)) == [1]


def test_all_scores_of_a_row_that_sums_to_just_less_than_one_meet_a_threshold_of_one() -> None:
    scores = [[1 / 3 - 2e-10] * 3]
    assert select_experts(scores, np.ones(3), 1.0, 3).feasible[0]


@pytest.mark.parametrize("max_experts", [1, 2, 3])
def test_where_the_best_scores_fall_short_they_are_taken_and_flagged(max_experts: int) -> None:
    selection = select_experts([[0.1, 0.3, 0.2, 0.15]], [1.0, 9.0, 9.0, 1.0], 0.9, max_experts)
    assert chosen(selection) == sorted([1, 2, 3][:max_experts])
    assert not selection.feasible[0]


@pytest.mark.parametrize("max_experts", [1, 3])
def test_among_equal_scores_that_fall_short_the_cheaper_are_taken(max_experts: int) -> None:
    selection = select_experts([[0.1] * 5], [5.0, 4.0, 1.0, 3.0, 2.0], 0.9, max_experts)
    assert chosen(selection) == sorted([2, 4, 3][:max_experts])


@pytest.mark.parametrize("max_experts", CAPS)
def test_an_unreachable_expert_is_never_taken(max_experts: int) -> None:
    selection = select_experts([[0.8, 0.1, 0.1]], [INF, 1.0, 2.0], 0.5, max_experts)
    assert chosen(selection) == ([1, 2] if max_experts > 1 else [1])
    assert not selection.feasible[0]
    assert np.isfinite(selection.energy_j[0])


@pytest.mark.parametrize("max_experts", CAPS)
@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_where_none_is_reachable_none_is_taken(threshold: float, max_experts: int) -> None:
    selection = select_experts([[0.5, 0.5]], [INF, INF], threshold, max_experts)
    assert chosen(selection) == []
    assert not selection.feasible[0]
    assert selection.energy_j[0] == INF


@pytest.mark.parametrize("max_experts", CAPS)
def test_without_a_threshold_the_cheapest_reachable_expert_is_taken(max_experts: int) -> None:
    selection = select_experts([[0.5, 0.0, 0.3, 0.2]], [3.0, 1.0, INF, 2.0], 0.0, max_experts)
    assert chosen(selection) == [1]
    assert selection.feasible[0]


def test_an_expert_that_costs_nothing_does_not_displace_the_rule() -> None:
    selection = select_experts([[0.1, 0.6, 0.3]], [0.0, 2.0, 0.0], 0.4, 3)
    assert selection.energy_j[0] == 0.0
    assert selection.mask[0, [0, 2]].all()


@pytest.mark.parametrize("max_experts", CAPS)
def test_energy_may_be_shared_by_all_items_or_each_items_own(max_experts: int) -> None:
    scores = np.random.default_rng(1).dirichlet(np.ones(6), 30)
    energy_E = np.array([4.0, 3.0, 2.0, 1.0, INF, 2.5])
    shared = select_experts(scores, energy_E, 0.7, max_experts)
    own = select_experts(scores, np.tile(energy_E, (30, 1)), 0.7, max_experts)
    np.testing.assert_array_equal(shared.mask, own.mask)
    np.testing.assert_array_equal(shared.energy_j, own.energy_j)
    np.testing.assert_array_equal(shared.search_nodes, own.search_nodes)


def test_threshold_may_be_each_items_own() -> None:
    selection = select_experts([[0.6, 0.4]] * 3, [2.0, 1.0], threshold=[0.3, 0.5, 1.0])
    assert selection.mask.tolist() == [[False, True], [True, False], [True, True]]


@pytest.mark.parametrize("max_experts", CAPS)
def test_results_have_the_promised_types_and_prove_their_optimum(max_experts: int) -> None:
    selection = select_experts([[0.4, 0.3, 0.3]] * 5, [1.0, 2.0, 3.0], 0.6, max_experts)
    assert (selection.mask.shape, selection.mask.dtype) == ((5, 3), np.bool_)
    assert (selection.energy_j.shape, selection.energy_j.dtype) == ((5,), np.float64)
    assert (selection.feasible.shape, selection.feasible.dtype) == ((5,), np.bool_)
    assert (selection.search_nodes.shape, selection.search_nodes.dtype) == ((5,), np.int64)
    assert (selection.search_nodes >= 1).all()
    assert selection.gap_j.tolist() == [0.0] * 5


@pytest.mark.parametrize("max_experts", CAPS)
def test_a_budget_changes_nothing_where_it_is_not_spent(max_experts: int) -> None:
    scores, energy = np.random.default_rng(3).dirichlet(np.ones(8), 40), np.arange(1.0, 9.0)
    expected = select_experts(scores, energy, 0.6, max_experts)
    within = select_experts(scores, energy, 0.6, max_experts, node_budget=299)
    np.testing.assert_array_equal(within.mask, expected.mask)
    assert within.gap_j.tolist() == [0.0] * 40


@pytest.mark.parametrize("max_experts", CAPS)
def test_no_items_give_an_empty_selection(max_experts: int) -> None:
    assert select_experts(np.empty((0, 4)), np.ones(4), 0.5, max_experts).mask.shape == (0, 4)


def test_arguments_are_left_as_they_were() -> None:
    scores, energy = np.array([[0.2, 0.5, 0.3]]), np.array([[3.0, 2.0, INF]])
    before = scores.copy(), energy.copy()
    select_experts(scores, energy, 0.6, 3)
    np.testing.assert_array_equal(scores, before[0])
    np.testing.assert_array_equal(energy, before[1])


def test_arrays_in_any_memory_order_are_taken() -> None:
    rng = np.random.default_rng(2)
    scores, energy = rng.dirichlet(np.ones(6), 20), rng.uniform(1, 2, (20, 6))
    expected = select_experts(scores, energy, 0.6, 3).mask
    strided = select_experts(np.asfortranarray(scores), np.asfortranarray(energy), 0.6, 3).mask
    np.testing.assert_array_equal(strided, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scores": [0.5, 0.5]}, r"shape of scores is \(2,\)"),
        ({"scores": np.empty((1, 0))}, "shape of scores"),
        ({"scores": [[0.5, -0.1]]}, r"scores\[0, 1\] is -0\.1; expected finite and >= 0"),
        ({"scores": [[np.nan, 0.5]]}, r"scores\[0, 0\] is nan"),
        ({"scores": [[0.5, INF]]}, r"scores\[0, 1\] is inf"),
        ({"scores": [["a", "b"]]}, "scores is .*expected an array of real numbers"),
        ({"scores": [[0.5], [0.5, 0.5]]}, "scores is 'list'; expected an array of real numbers"),
        ({"scores": [[0.5j, 0.5]]}, "scores is 'complex128'"),
        ({"energy": [1.0, 2.0, 3.0]}, r"shape of energy is \(3,\)"),
        ({"energy": [[1.0, 2.0]] * 2}, r"shape of energy is \(2, 2\)"),
        ({"energy": [1.0, -2.0]}, r"energy\[0, 1\] is -2\.0; expected 0 to 1e\+250 J, or inf"),
        ({"energy": [[np.nan, 1.0]]}, r"energy\[0, 0\] is nan"),
        ({"threshold": [0.5, 0.5]}, "shape of threshold"),
        ({"threshold": np.nan}, "threshold is nan; expected a number from 0 to 1"),
        ({"threshold": -0.1}, r"threshold is -0\.1"),
        ({"threshold": [1.5]}, r"threshold\[0\] is 1\.5"),
        ({"max_experts": 0}, "max_experts is 0; expected an integer of at least 1"),
        ({"max_experts": 2.0}, r"max_experts is 2\.0"),
        ({"max_experts": True}, "max_experts is True"),
        ({"node_budget": 0}, "node_budget is 0; expected an integer of at least 1"),
        ({"node_budget": -1}, "node_budget is -1"),
        ({"node_budget": 1.5}, r"node_budget is 1\.5"),
        ({"node_budget": True}, "node_budget is True"),
    ],
)
def test_a_wrong_argument_is_named_with_its_value_and_what_is_expected(
    arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        select_experts(**{"scores": [[0.5, 0.5]], "energy": [1.0, 2.0], **arguments})  # type: ignore[arg-type]


def test_read_only_and_strided_inputs_use_the_kernel_that_is_compiled_already() -> None:
    from airmoe.scheduling.selection import quick_search as search

    scores_TE, energy_TE = np.full((6, 4), 0.25), np.ones((6, 4))
    expected = select_experts(scores_TE, energy_TE, 0.5, 2)
    compiled = len(search.select_rows.signatures)  # type: ignore[attr-defined]
    scores_TE.flags.writeable = energy_TE.flags.writeable = False
    for scores, energy in (
        (scores_TE, energy_TE),
        (np.asfortranarray(scores_TE), np.asfortranarray(energy_TE)),
        (np.repeat(scores_TE, 2, axis=0)[::2], energy_TE.astype(np.float32)),
    ):
        np.testing.assert_array_equal(select_experts(scores, energy, 0.5, 2).mask, expected.mask)
    assert len(search.select_rows.signatures) == compiled  # type: ignore[attr-defined]


def test_energies_that_would_overflow_where_they_are_added_up_are_refused() -> None:
    with pytest.raises(
        InvalidInputError, match=r"energy\[0, 1\] is 1e\+308; expected 0 to 1e\+250 J, or inf"
    ):
        select_experts([[0.5, 0.5]], [1.0, 1e308])


def test_a_node_budget_of_any_size_is_taken() -> None:
    scores_TE = np.random.default_rng(0).dirichlet(np.ones(48), 3)
    chosen = select_experts(scores_TE, scores_TE * 1e-5, 0.3, 8, node_budget=2**70)
    assert (chosen.gap_j == 0).all()
