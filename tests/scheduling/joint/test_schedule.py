"""JESA: what a plan promises, against exact joint optima, and at every number of subcarriers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airmoe.errors import InvalidInputError
from airmoe.links import Links, Ofdma, RayleighFading
from airmoe.scheduling import Plan, allocate_subcarriers, schedule_layer, select_experts
from tests.scheduling.joint.joint_optimum import (
    instance,
    optimum_by_integer_program,
    optimum_of_three_nodes,
    price_NNM,
)


def plan_of(
    nodes: int,
    subcarriers: int,
    items: int,
    seed: int,
    threshold: float = 0.6,
    charge_return: bool = False,
    **options: object,
) -> Plan:
    scores_TE, source_T, gain_NNM = instance(nodes, subcarriers, items, seed)
    radio = Ofdma(subcarriers=subcarriers, charge_return=charge_return)
    return schedule_layer(scores_TE, source_T, gain_NNM, radio, threshold=threshold, **options)  # type: ignore[arg-type]


DRAWS = [(items, seed) for items in (6, 30, 100) for seed in range(100)]


def test_with_restarts_three_nodes_are_scheduled_optimally_and_no_bound_exceeds_the_optimum() -> None:
    plain = restarted = proven = 0
    for items, seed in DRAWS:
        scores_TE, source_T, gain_NNM = instance(3, 16, items, 1000 * items + seed)
        missed, optimum_j = optimum_of_three_nodes(scores_TE, source_T, price_NNM(gain_NNM), 0.6, 2)
        once = plan_of(3, 16, items, 1000 * items + seed)
        often = plan_of(3, 16, items, 1000 * items + seed, restarts=10, bound="tight")
        for plan in (once, often):
            assert (~plan.selection.feasible).sum() == missed
            assert plan.energy_j >= optimum_j * (1 - 1e-9)
            assert plan.lower_bound_j <= optimum_j * (1 + 1e-9)
            if plan.proven_optimal:
                assert plan.energy_j == pytest.approx(optimum_j, rel=1e-8)
        plain += once.energy_j <= optimum_j * (1 + 1e-9)
        restarted += often.energy_j <= optimum_j * (1 + 1e-9)
        proven += often.proven_optimal
    assert plain >= 0.96 * len(DRAWS)  # 0.69 to 0.87 if idle links had no subcarriers
    assert restarted >= 0.99 * len(DRAWS)
    assert proven >= 0.95 * len(DRAWS)


def test_on_layers_of_every_kind_no_bound_exceeds_the_optimum_and_no_proof_is_false() -> None:
    """Few subcarriers and many, links without gain, thresholds nobody meets, items at one node or at all."""
    rng = np.random.default_rng(0)
    optimal = 0
    for seed in range(500):
        subcarriers, items = int(rng.integers(1, 20)), int(rng.integers(1, 30))
        scores_TE, source_T, gain_NNM = instance(3, subcarriers, items, seed)
        gain_NNM[rng.random(gain_NNM.shape) < rng.choice([0.0, 0.0, 0.2])] = 0.0
        if rng.random() < 0.3:
            source_T[:] = rng.integers(0, 3)
        threshold, max_experts = float(rng.uniform()), int(rng.integers(1, 4))
        missed, optimum_j = optimum_of_three_nodes(
            scores_TE, source_T, price_NNM(gain_NNM), threshold, max_experts
        )
        plan = schedule_layer(
            scores_TE,
            source_T,
            gain_NNM,
            Ofdma(subcarriers=subcarriers),
            threshold=threshold,
            max_experts=max_experts,
            bound="tight",
            restarts=5,
        )
        missed_here = (~plan.selection.feasible).sum()
        assert missed_here >= missed
        if np.isfinite(plan.gap):
            assert plan.lower_bound_j <= optimum_j * (1 + 1e-9) + 1e-13
        if missed_here == missed:
            assert plan.energy_j >= optimum_j * (1 - 1e-9) - 1e-13
            optimal += plan.energy_j <= optimum_j * (1 + 1e-9) + 1e-13
        if plan.proven_optimal:
            assert missed_here == missed
            assert plan.energy_j <= optimum_j * (1 + 1e-8) + 1e-13
    assert optimal >= 450


@pytest.mark.parametrize("seed", range(3))
def test_the_enumerated_optimum_is_that_of_an_integer_program(seed: int) -> None:
    scores_TE, source_T, gain_NNM = instance(3, 8, 6, seed)
    price = price_NNM(gain_NNM)
    threshold = 0.9 * np.sort(scores_TE, axis=1)[:, 1:].sum(axis=1).min()  # every item can meet it
    missed, optimum_j = optimum_of_three_nodes(scores_TE, source_T, price, threshold, 2)
    assert missed == 0
    exact_j = optimum_by_integer_program(scores_TE, source_T, price, threshold, 2)
    assert optimum_j == pytest.approx(exact_j, rel=1e-5)  # the solver stops within its gap
    plan = plan_of(3, 8, 6, seed, threshold, restarts=10)
    assert plan.energy_j == pytest.approx(exact_j, rel=1e-5)


@pytest.mark.parametrize(("subcarriers", "most_percent"), [(1024, 0.01), (128, 0.1)])
def test_the_mean_proven_gap_of_eight_nodes_is_small(subcarriers: int, most_percent: float) -> None:
    gaps = [
        plan_of(8, subcarriers, 512, seed, threshold=0.5, bound="tight", restarts=2).gap for seed in range(30)
    ]
    assert 100 * np.mean(gaps) <= most_percent


@pytest.mark.parametrize("subcarriers", [3, 4, 5])
def test_with_fewer_subcarriers_than_links_plans_are_close_to_the_optimum(subcarriers: int) -> None:
    optimal = 0
    for seed in range(60):
        scores_TE, source_T, gain_NNM = instance(3, subcarriers, 12, seed)
        missed, optimum_j = optimum_of_three_nodes(scores_TE, source_T, price_NNM(gain_NNM), 0.5, 2)
        plan = plan_of(3, subcarriers, 12, seed, threshold=0.5, restarts=30, bound="tight")
        assert (~plan.selection.feasible).sum() >= missed
        if (~plan.selection.feasible).sum() == missed:
            assert plan.energy_j >= optimum_j * (1 - 1e-9)
            assert plan.lower_bound_j <= optimum_j * (1 + 1e-9) or plan.gap == np.inf
            optimal += plan.energy_j <= optimum_j * (1 + 1e-9)
    assert optimal >= 57


@pytest.mark.parametrize(
    ("nodes", "subcarriers", "items"),
    [(2, 1, 5), (4, 3, 20), (4, 12, 20), (6, 20, 100), (6, 31, 7), (8, 200, 64)],
)
@pytest.mark.parametrize("charge_return", [False, True])
def test_selection_subcarriers_and_energy_belong_together(
    nodes: int, subcarriers: int, items: int, charge_return: bool
) -> None:
    scores_TE, source_T, gain_NNM = instance(nodes, subcarriers, items, items)
    compute_j_E = np.linspace(1e-4, 2e-4, nodes)
    plan = schedule_layer(
        scores_TE,
        source_T,
        gain_NNM,
        Ofdma(subcarriers=subcarriers, charge_return=charge_return),
        threshold=0.5,
        max_experts=3,
        compute_j_per_token=compute_j_E,
    )
    used = plan.subcarrier[plan.subcarrier >= 0]
    assert len(set(used)) == used.size
    assert (np.diag(plan.subcarrier) == -1).all()
    price = price_NNM(gain_NNM)
    comm_j = 0.0
    for item, expert in zip(*np.nonzero(plan.selection.mask), strict=True):
        ways = [(source_T[item], expert), (expert, source_T[item])][: 2 if charge_return else 1]
        for way in ways:
            if way[0] != way[1]:
                assert plan.subcarrier[way] >= 0
                comm_j += price[(*way, plan.subcarrier[way])]
    assert plan.comm_j == pytest.approx(comm_j, rel=1e-9)
    assert plan.compute_j == pytest.approx((plan.selection.mask * compute_j_E).sum(), rel=1e-12)
    assert plan.energy_j == pytest.approx(plan.comm_j + plan.compute_j, rel=1e-12)
    assert plan.energy_j == pytest.approx(plan.selection.energy_j.sum(), rel=1e-12)
    met_T = (plan.selection.mask * scores_TE).sum(axis=1) >= 0.5 - 1e-9
    np.testing.assert_array_equal(plan.selection.feasible, met_T)
    assert (plan.selection.mask.sum(axis=1) <= 3).all()


@pytest.mark.parametrize("subcarriers", [20, 56, 64, 128])
def test_energy_never_rises_from_round_to_round(subcarriers: int) -> None:
    rounds = 0
    for seed in range(30):
        plan = plan_of(8, subcarriers, 100, seed, threshold=0.5)
        assert len(plan.round_energy_j) == plan.iterations
        assert plan.energy_j == pytest.approx(plan.round_energy_j[-1], rel=1e-12)
        if plan.selection.feasible.all():
            assert (np.diff(plan.round_energy_j) < 0).all()
        rounds += plan.iterations
    assert rounds > 30  # it does descend


def test_where_all_best_subcarriers_differ_the_lower_bound_is_met_and_proven() -> None:
    found = 0
    for seed in range(40):
        _, _, gain_NNM = instance(3, 64, 50, seed)
        best = gain_NNM.argmax(axis=2)[~np.eye(3, dtype=bool)]
        if len(set(best)) == 6:
            found += 1
            plan = plan_of(3, 64, 50, seed)
            assert plan.proven_optimal
            assert plan.gap <= 1e-9
    assert 20 < found < 40


def test_bounds_come_in_order() -> None:
    for seed in range(5):
        none, fast, tight = (plan_of(8, 64, 100, seed, bound=bound) for bound in ("none", "fast", "tight"))
        assert none.energy_j == fast.energy_j == tight.energy_j
        assert none.lower_bound_j == 0.0
        assert none.gap == np.inf
        assert not none.proven_optimal
        assert fast.lower_bound_j < tight.lower_bound_j <= tight.energy_j
        assert tight.gap == pytest.approx(tight.energy_j / tight.lower_bound_j - 1)


def test_a_layer_is_never_dearer_than_selection_under_a_standing_allocation() -> None:
    saved_j = []
    for seed in range(10):
        scores_TE, source_T, gain_NNM = instance(6, 40, 100, seed)
        links = Links.from_gain(gain_NNM, Ofdma(subcarriers=40))
        energy_TE = 65536 * links.energy_per_bit_j(allocate_subcarriers(links))[source_T]
        standing_j = select_experts(scores_TE, energy_TE, 0.5, 2).energy_j.sum()
        saved_j.append(standing_j - plan_of(6, 40, 100, seed, threshold=0.5).energy_j)
    assert min(saved_j) >= -1e-12
    assert np.mean(saved_j) > 0


def test_items_of_one_source_use_its_own_links_only() -> None:
    scores_TE, _, gain_NNM = instance(5, 8, 40, 0)
    plan = schedule_layer(scores_TE, np.full(40, 3), gain_NNM, Ofdma(subcarriers=8), threshold=0.6)
    assert (plan.subcarrier[[0, 1, 2, 4]] == -1).all()
    assert (plan.subcarrier[3, [0, 1, 2, 4]] >= 0).all()
    assert plan.proven_optimal or plan.gap > 0


def test_a_server_without_experts_reaches_several_experts_on_one_node() -> None:
    """Node 0 holds all items; node 1 has experts 0 and 1, node 2 expert 2."""
    gain_NNM = np.full((3, 3, 2), 1e-12)
    radio = Ofdma(subcarriers=2)
    scores_TE = np.array([[0.5, 0.4, 0.1], [0.1, 0.2, 0.7]])
    plan = schedule_layer(scores_TE, [0, 0], gain_NNM, radio, threshold=0.7, placement=[1, 1, 2])
    assert plan.selection.mask.tolist() == [[True, True, False], [False, False, True]]
    per_transfer_j = 65536 * float(radio.energy_per_bit_j(1e-12))
    assert plan.energy_j == pytest.approx(3 * per_transfer_j)  # each expert is charged its own transfer
    assert plan.subcarrier[0, 1] != plan.subcarrier[0, 2]
    assert np.count_nonzero(plan.subcarrier >= 0) == 2


def test_items_of_one_source_may_be_served_by_different_nodes_for_the_same_expert() -> None:
    """Node 0 holds both items; expert 0 lives on nodes 1 and 2."""
    gain_NNM = np.full((3, 3, 4), 1e-12)
    gain_NNM[0, 2] = 1e-11
    radio = Ofdma(subcarriers=4)
    plan = schedule_layer([[1.0], [1.0]], [0, 0], gain_NNM, radio, placement=[[1], [2]])
    per_transfer_j = 65536 * radio.energy_per_bit_j(np.array([1e-12, 1e-11]))
    np.testing.assert_allclose(plan.selection.energy_j, per_transfer_j)
    assert plan.airtime_s == pytest.approx(per_transfer_j[0] / radio.power_w)
    assert plan.subcarrier[0, 1] >= 0 <= plan.subcarrier[0, 2]
    assert plan.subcarrier[0, 1] != plan.subcarrier[0, 2]


def test_the_airtime_is_that_of_the_busiest_link() -> None:
    scores_TE, source_T, gain_NNM = instance(4, 16, 50, 1)
    radio = Ofdma(subcarriers=16)
    plan = schedule_layer(scores_TE, source_T, gain_NNM, radio, threshold=0.4, token_bits=1000.0)
    busiest_s = 0.0
    for source in range(4):
        for node in set(range(4)) - {source}:
            items = plan.selection.mask[source_T == source, node].sum()
            if items:
                gain = gain_NNM[source, node, plan.subcarrier[source, node]]
                busiest_s = max(busiest_s, 1000 * items / radio.rate_bps(gain))
    assert plan.airtime_s == pytest.approx(busiest_s)


def test_links_without_gain_are_not_used() -> None:
    scores_TE, source_T, gain_NNM = instance(4, 16, 50, 1)
    gain_NNM[:, 2] = 0.0
    gain_NNM[1, 3, :15] = 0.0
    plan = schedule_layer(scores_TE, source_T, gain_NNM, Ofdma(subcarriers=16), threshold=0.4, bound="tight")
    assert not plan.selection.mask[source_T != 2, 2].any()
    assert (plan.subcarrier[:, 2] == -1).all()
    assert plan.subcarrier[1, 3] in (-1, 15)
    assert plan.lower_bound_j <= plan.energy_j


def test_where_nothing_can_be_reached_items_stay_at_home_or_go_nowhere() -> None:
    scores_TE = np.array([[0.9, 0.1], [0.9, 0.1]])
    plan = schedule_layer(scores_TE, [0, 1], np.zeros((2, 2, 4)), Ofdma(subcarriers=4), threshold=0.5)
    assert plan.selection.mask.tolist() == [[True, False], [False, True]]
    assert plan.selection.feasible.tolist() == [True, False]
    assert plan.energy_j == 0.0
    nowhere = schedule_layer([[1.0]], [0], np.zeros((2, 2, 4)), Ofdma(subcarriers=4), placement=[1])
    assert not nowhere.selection.mask.any()
    assert not nowhere.selection.feasible.any()
    assert nowhere.energy_j == 0.0


def test_pairs_that_must_not_be_chosen_are_not() -> None:
    scores_TE, source_T, gain_NNM = instance(4, 16, 50, 2)
    reachable_TE = np.random.default_rng(0).random((50, 4)) < 0.7
    plan = schedule_layer(scores_TE, source_T, gain_NNM, Ofdma(subcarriers=16), reachable=reachable_TE)
    assert not (plan.selection.mask & ~reachable_TE).any()


def test_larger_payloads_weigh_more() -> None:
    """Two links want the same subcarrier; the one with more bits gets it."""
    gain_NNM = np.full((3, 3, 6), 1e-13)
    gain_NNM[:, :, 5] = 1e-11
    scores_TE = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    for heavy, light in ((0, 1), (1, 0)):
        bits_T = np.array([1e4, 1e4])
        bits_T[heavy] = 1e6
        plan = schedule_layer(
            scores_TE, [0, 1], gain_NNM, Ofdma(subcarriers=6), threshold=0.9, token_bits=bits_T
        )
        assert plan.subcarrier[heavy, light] == 5
        per_bit_j = Ofdma().energy_per_bit_j([1e-11, 1e-13])
        assert plan.energy_j == pytest.approx(1e6 * per_bit_j[0] + 1e4 * per_bit_j[1])


def test_fixed_computation_is_reported_for_the_experts_used_and_nothing_is_called_proven() -> None:
    plan = plan_of(3, 64, 30, 5)
    fixed = plan_of(3, 64, 30, 5, compute_j_fixed=[1.0, 2.0, 4.0])
    used_E = plan.selection.mask.any(axis=0)
    assert fixed.energy_j == pytest.approx(plan.energy_j + np.array([1.0, 2.0, 4.0])[used_E].sum())
    assert fixed.compute_j == pytest.approx(np.array([1.0, 2.0, 4.0])[used_E].sum())
    assert not fixed.proven_optimal
    assert plan_of(3, 64, 30, 5, bound="tight", restarts=10).proven_optimal


def test_no_items_and_a_single_node_make_empty_plans() -> None:
    plan = schedule_layer(np.empty((0, 3)), [], np.ones((3, 3, 4)), Ofdma(subcarriers=4))
    assert plan.energy_j == 0.0
    assert plan.selection.mask.shape == (0, 3)
    alone = schedule_layer([[1.0]], [0], np.ones((1, 1, 4)), Ofdma(subcarriers=4), bound="tight")
    assert alone.energy_j == 0.0
    assert alone.proven_optimal


def test_a_plan_that_has_to_miss_thresholds_for_want_of_subcarriers_claims_no_bound() -> None:
    """Two nodes must reach a third over one subcarrier: one of them misses, whatever is done."""
    radio = Ofdma(subcarriers=1)
    plan = schedule_layer([[1.0], [1.0]], [1, 2], np.ones((3, 3, 1)), radio, placement=[0], bound="tight")
    assert plan.selection.feasible.sum() == 1
    assert (plan.lower_bound_j, plan.gap, plan.proven_optimal) == (0.0, np.inf, False)


def test_gains_too_small_to_price_are_no_links() -> None:
    gain_NNM = np.full((2, 2, 2), 5e-324)
    plan = schedule_layer([[0.1, 0.9], [0.5, 0.5]], [0, 1], gain_NNM, Ofdma(subcarriers=2), bound="tight")
    assert plan.selection.mask.tolist() == [[True, False], [False, True]]
    assert plan.energy_j == 0.0


def test_the_same_seed_gives_the_same_plan() -> None:
    one, again = (plan_of(3, 8, 20, 3, restarts=5) for _ in range(2))
    np.testing.assert_array_equal(one.subcarrier, again.subcarrier)
    np.testing.assert_array_equal(one.selection.mask, again.selection.mask)


@settings(deadline=None, max_examples=60)
@given(
    nodes=st.integers(1, 5),
    subcarriers=st.integers(1, 24),
    items=st.integers(1, 20),
    seed=st.integers(0, 1000),
    threshold=st.floats(0, 1),
    max_experts=st.integers(1, 4),
    charge_return=st.booleans(),
)
def test_whatever_the_layer_no_bound_exceeds_the_energy_and_restarts_never_hurt(
    nodes: int,
    subcarriers: int,
    items: int,
    seed: int,
    threshold: float,
    max_experts: int,
    charge_return: bool,
) -> None:
    plan, better = (
        plan_of(
            nodes, subcarriers, items, seed, threshold,
            max_experts=max_experts, charge_return=charge_return, bound="tight", restarts=restarts,
        )
        for restarts in (0, 4)
    )  # fmt: skip
    assert (~better.selection.feasible).sum() <= (~plan.selection.feasible).sum()
    if (~better.selection.feasible).sum() == (~plan.selection.feasible).sum():
        assert better.energy_j <= plan.energy_j * (1 + 1e-12)
        for bound in (plan, better):
            if np.isfinite(bound.gap):
                assert bound.lower_bound_j <= better.energy_j * (1 + 1e-9)


GOOD = {
    "scores": [[0.5, 0.5], [0.2, 0.8]],
    "source": [0, 1],
    "gain": np.ones((2, 2, 3)),
    "radio": Ofdma(subcarriers=3),
}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"scores": [0.5, 0.5]}, "shape of scores"),
        ({"scores": [[0.5, -0.5], [0.2, 0.8]]}, r"scores\[0, 1\] is -0.5"),
        ({"scores": [[0.5, 0.5], [np.nan, 0.8]]}, r"scores\[1, 0\] is nan"),
        ({"source": [0]}, "shape of source"),
        ({"source": [0, 2]}, r"source\[1\] is 2; expected an integer from 0 to 1"),
        ({"source": [0.0, 1.0]}, "source is 'float64'"),
        ({"gain": np.ones((2, 3, 3))}, "shape of gain"),
        ({"gain": np.ones((2, 2, 4))}, "shape of gain"),
        ({"gain": np.ones((2, 2, 0))}, "shape of gain"),
        ({"gain": -np.ones((2, 2, 3))}, "gain.*is -1.0"),
        ({"gain": np.full((2, 2, 3), np.nan)}, "gain.*is nan"),
        ({"threshold": 1.5}, "threshold is 1.5|threshold.* is 1.5"),
        ({"threshold": [0.5]}, "shape of threshold"),
        ({"threshold": [0.5, np.nan]}, r"threshold\[1\] is nan"),
        ({"max_experts": 0}, "max_experts is 0"),
        ({"max_experts": 1.5}, "max_experts is 1.5"),
        ({"placement": [0]}, "shape of placement"),
        ({"placement": [[0, 1], [0, 1], [0, 1]]}, r"\(3, 2\); expected \(E,\) = \(2,\) or \(T, E\)"),
        ({"placement": [0, 5]}, r"placement\[1\] is 5"),
        ({"reachable": [[1, 1], [1, 1]]}, "reachable is 'int64'"),
        ({"reachable": [[True, True]]}, "shape of reachable"),
        ({"token_bits": 0}, "token_bits.* is 0.0"),
        ({"token_bits": [1, np.inf]}, r"token_bits\[1\] is inf"),
        ({"token_bits": [1, 2, 3]}, "shape of token_bits"),
        ({"compute_j_per_token": -1.0}, "compute_j_per_token is -1.0"),
        ({"compute_j_per_token": 1e308}, r"compute_j_per_token is 1e\+308; expected 0 to 1e\+250 J"),
        ({"compute_j_per_token": [0.0]}, "shape of compute_j_per_token"),
        ({"compute_j_fixed": [0.0, np.nan]}, r"compute_j_fixed\[1\] is nan"),
        ({"bound": "best"}, "bound is 'best'; expected one of none, fast, tight"),
        ({"restarts": -1}, "restarts is -1"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_wrong_inputs_are_named(change: dict[str, object], named: str) -> None:
    schedule_layer(**GOOD)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match=named):
        schedule_layer(**(GOOD | change))  # type: ignore[arg-type]


def test_fading_links_can_be_handed_over_as_they_are() -> None:
    links = RayleighFading(4, Ofdma(subcarriers=16)).at(0)
    plan = schedule_layer(np.full((8, 4), 0.25), np.arange(8) % 4, links.gain_NNM, links.radio)
    assert plan.selection.feasible.all()
