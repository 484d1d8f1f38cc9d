"""Every policy's rule, and what all of them hold to."""

import numpy as np
import pytest

from airmoe.errors import InvalidInputError
from airmoe.links import Links, LinkSnr, Ofdma
from airmoe.scheduling import (
    All,
    BestLink,
    Cheapest,
    Cost,
    Des,
    Local,
    Policy,
    RandomK,
    Routing,
    Slot,
    TopK,
    Wlr,
    make_policy,
    select_experts,
)

INF = np.inf
SPECS = ["topk:2", "random:2", "cheapest:2", "best-link:2", "local", "all", "wlr:0.5", "des:0.5:2"]
SPECS += ["des:0.5:3:0.8"]


def route(
    policy: Policy, scores: list[float], price: list[float], *, source: int = 0, layer: int = 1
) -> Routing:
    """Route one item at a node, expert e being on node e; joules are spent at 10 mW."""
    links = Links.from_snr(10.0, Ofdma(subcarriers=2), nodes=max(len(scores), source + 1))
    slot = Slot(np.array([source]), np.arange(len(scores)), links, layer)
    return policy.route([scores], Cost([price], np.array([price]) / 1e-2), slot)


def chosen(routing: Routing) -> list[int]:
    return np.flatnonzero(routing.mask_TE[0]).tolist()


def test_topk_takes_the_best_scores_whatever_they_cost() -> None:
    assert chosen(route(TopK(2), [0.1, 0.4, 0.2, 0.3], [0, 9, 0, 9])) == [1, 3]


def test_topk_gives_ties_to_the_lower_index() -> None:
    assert chosen(route(TopK(2), [0.2, 0.3, 0.3, 0.3], [1, 1, 1, 1])) == [1, 2]


def test_topk_passes_over_unreachable_experts() -> None:
    assert chosen(route(TopK(2), [0.6, 0.2, 0.1, 0.1], [INF, 1, 1, 1])) == [1, 2]


def test_topk_takes_fewer_where_fewer_are_reachable() -> None:
    routing = route(TopK(3), [0.6, 0.2, 0.2], [INF, 1, 2])
    assert chosen(routing) == [1, 2]
    assert routing.feasible_T[0]


def test_topk_may_take_a_score_of_zero() -> None:
    assert chosen(route(TopK(2), [0.0, 1.0, 0.0], [1, 1, 1])) == [0, 1]


def test_random_draws_k_reachable_experts_uniformly() -> None:
    slot = Slot(np.zeros(6000, dtype=np.int64), np.arange(4))
    price_TE = np.tile([1.0, 1.0, INF, 1.0], (6000, 1))
    mask_TE = RandomK(2, seed=1).route(np.full((6000, 4), 0.25), Cost(price_TE), slot).mask_TE
    assert (mask_TE.sum(axis=1) == 2).all()
    np.testing.assert_allclose(mask_TE.mean(axis=0), [2 / 3, 2 / 3, 0, 2 / 3], atol=0.03)


def test_random_goes_on_with_its_stream_and_repeats_it_for_the_same_seed() -> None:
    slot, ones_TE = Slot(np.zeros(50, dtype=np.int64), np.arange(8)), np.ones((50, 8))

    def draw_twice(seed: int) -> list[np.ndarray]:
        policy = RandomK(1, seed)
        return [policy.route(ones_TE, Cost(ones_TE), slot).mask_TE for _ in range(2)]

    first, again, other = draw_twice(0), draw_twice(0), draw_twice(1)
    np.testing.assert_array_equal(first, again)
    assert (first[0] != first[1]).any()
    assert (first[0] != other[0]).any()


def test_local_takes_only_the_experts_at_the_items_own_node() -> None:
    slot = Slot(np.array([1, 0]), np.array([0, 1, 1]))
    routing = Local().route(np.ones((2, 3)), Cost(np.ones((2, 3))), slot)
    assert routing.mask_TE.tolist() == [[False, True, True], [True, False, False]]


def test_local_is_infeasible_at_a_node_without_experts() -> None:
    routing = route(Local(), [0.5, 0.5], [1, 1], source=2)
    assert chosen(routing) == []
    assert not routing.feasible_T[0]
    assert routing.energy_j_T[0] == 0.0


def test_all_takes_every_reachable_expert() -> None:
    assert chosen(route(All(), [0.0, 0.5, 0.5], [1, INF, 1])) == [0, 2]


def test_cheapest_takes_the_least_energy_whatever_the_scores() -> None:
    assert chosen(route(Cheapest(2), [0.0, 0.9, 0.1, 0.0], [1, 9, 3, 2])) == [0, 3]
    assert chosen(route(Cheapest(2), [0.0, 0.9, 0.1, 0.0], [INF, 9, INF, 2])) == [1, 3]


def test_best_link_takes_the_best_observed_snr_whatever_scores_and_prices() -> None:
    seen_TE, true_TE = np.array([[3.0, 9.0, INF, -INF], [5.0, 1.0, 2.0, 5.0]]), np.zeros((2, 4))
    slot = Slot(np.array([4, 4]), np.arange(4), snr=LinkSnr(true_TE, seen_TE))
    scores_TE, cost = np.array([[0.9, 0.1, 0, 0], [0, 1, 0, 0]]), Cost([[0, 9, 9, 0], [9, 0, 0, 9.0]])
    assert BestLink(1).route(scores_TE, cost, slot).mask_TE.nonzero()[1].tolist() == [2, 0]
    assert BestLink(2).route(scores_TE, cost, slot).mask_TE.nonzero()[1].tolist() == [1, 2, 0, 3]


def test_best_link_takes_the_best_reachable_link() -> None:
    slot = Slot(np.array([3]), np.arange(3), snr=LinkSnr([[9.0, 3.0, 5.0]]))
    assert chosen(BestLink(1).route([[1, 0, 0]], Cost([[INF, 1, 1]]), slot)) == [2]
    assert chosen(BestLink(3).route([[1, 0, 0]], Cost([[INF, 1, 1]]), slot)) == [1, 2]


def test_best_link_goes_by_the_links_where_items_have_none_of_their_own() -> None:
    snr_db_NN = np.array([[0, 3, 4], [5, 0, 2], [1, 2, 0.0]])
    slot = Slot(np.array([0, 1]), np.arange(3), Links.from_snr(snr_db_NN, Ofdma(subcarriers=6)))
    routing = BestLink(1).route(np.ones((2, 3)), Cost(np.ones((2, 3))), slot)
    assert routing.mask_TE.nonzero()[1].tolist() == [0, 1]  # the own node counts as 30 dB
    elsewhere = Cost(np.where(np.eye(3)[:2], INF, 1.0))
    assert BestLink(1).route(np.ones((2, 3)), elsewhere, slot).mask_TE.nonzero()[1].tolist() == [2, 0]


def test_best_link_asks_for_an_snr_by_name() -> None:
    with pytest.raises(InvalidInputError, match=r"slot\.snr is None; expected links, or an SNR for each"):
        BestLink(1).route([[0.5]], Cost([[1.0]]), Slot(np.array([0]), np.array([0])))


def test_wlr_keeps_what_scores_well_for_its_latency() -> None:
    """10 mW: 1 mJ is .1 s of airtime; computation takes .1 s; the ratios are 1.5, 2, 1.6 and 1."""
    scores, price = [0.15, 0.4, 0.8, 0.3], [0.0, 1e-3, 4e-3, 2e-3]
    assert chosen(route(Wlr(1.0, 0.1), scores, price)) == [1]
    assert chosen(route(Wlr(0.79, 0.1), scores, price)) == [1, 2]
    assert chosen(route(Wlr(0.7, 0.1), scores, price)) == [0, 1, 2]
    assert chosen(route(Wlr(0.0, 0.1), scores, price)) == [0, 1, 2, 3]


def test_wlr_goes_by_the_time_on_the_air_whatever_the_joules() -> None:
    slot = Slot(np.array([5]), np.arange(2))
    routing = Wlr(1.0, 0.1).route([[0.5, 0.5]], Cost([[1.0, 2.0]], [[4.0, 2.0]]), slot)
    assert chosen(routing) == [1]


def test_wlr_passes_over_an_expert_out_of_reach_however_well_it_scores() -> None:
    routing = Wlr(0.5).route([[0.9, 0.1]], Cost([[INF, 1.0]]), Slot(np.array([5]), np.arange(2)))
    assert chosen(routing) == [1]


def test_des_takes_the_cheapest_experts_whose_scores_suffice() -> None:
    routing = route(Des(importance=0.5, max_experts=2), [0.6, 0.3, 0.2], [9, 1, 2])
    assert chosen(routing) == [1, 2]
    assert routing.energy_j_T[0] == 3.0


def test_des_asks_for_less_in_deeper_layers() -> None:
    policy = Des(importance=0.5, max_experts=2)
    scores, price = [0.5, 0.3, 0.2], [4, 2, 1]
    assert [chosen(route(policy, scores, price, layer=layer)) for layer in (1, 2, 3)] == [[1, 2], [1], [2]]


def test_des_requirement_is_z_times_importance_to_the_layer() -> None:
    rng = np.random.default_rng(0)
    scores_TE, price_TE = rng.dirichlet(np.ones(6), 40), rng.uniform(1, 2, (40, 6))
    slot = Slot(np.zeros(40, dtype=np.int64), np.arange(6), layer=3)
    routing = Des(0.9, 3, z=0.8).route(scores_TE, Cost(price_TE), slot)
    selection = select_experts(scores_TE, price_TE, 0.8 * 0.9**3, 3)
    np.testing.assert_array_equal(routing.mask_TE, selection.mask)
    np.testing.assert_array_equal(routing.energy_j_T, selection.energy_j)


def test_des_flags_items_whose_threshold_cannot_be_met() -> None:
    routing = route(Des(importance=1.0, max_experts=2), [0.4, 0.3, 0.3], [1, 1, 1])
    assert len(chosen(routing)) == 2
    assert not routing.feasible_T[0]


@pytest.mark.parametrize("spec", SPECS)
def test_energy_is_the_sum_of_the_chosen_experts_prices(spec: str) -> None:
    routing = route(make_policy(spec), [0.5, 0.2, 0.2, 0.1], [1, 2, 4, 8])
    assert routing.energy_j_T[0] == sum([1.0, 2.0, 4.0, 8.0][e] for e in chosen(routing))
    assert routing.feasible_T[0] == bool(chosen(routing))


@pytest.mark.parametrize("spec", SPECS)
def test_no_policy_chooses_an_unreachable_expert(spec: str) -> None:
    assert set(chosen(route(make_policy(spec), [0.9, 0.05, 0.05], [INF, 1, INF]))) <= {1}


@pytest.mark.parametrize("spec", SPECS)
def test_where_no_expert_is_reachable_the_row_is_empty_infeasible_and_infinitely_dear(spec: str) -> None:
    routing = route(make_policy(spec), [0.5, 0.5], [INF, INF])
    assert chosen(routing) == []
    assert not routing.feasible_T[0]
    assert routing.energy_j_T[0] == INF


@pytest.mark.parametrize("spec", SPECS)
def test_no_items_give_an_empty_routing(spec: str) -> None:
    links = Links.from_snr(10.0, Ofdma(subcarriers=2), nodes=3)
    slot = Slot(np.array([], dtype=np.int64), np.arange(3), links)
    routing = make_policy(spec).route(np.empty((0, 3)), Cost(np.empty((0, 3))), slot)
    assert routing.mask_TE.shape == (0, 3)
    assert routing.energy_j_T.shape == routing.feasible_T.shape == (0,)


@pytest.mark.parametrize("spec", SPECS)
def test_policies_at_the_source_do_not_allocate_subcarriers(spec: str) -> None:
    policy = make_policy(spec)
    assert not policy.joint
    assert route(policy, [0.5, 0.5], [1, 1]).subcarrier_NN is None


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize(
    ("scores", "price", "source", "named"),
    [
        ([0.5, 0.5], [[1, 1]], [0], "shape of scores_TE"),
        ([[0.5, 0.5]], [[1, 1, 1]], [0], r"shape of cost\.energy_j_TE"),
        ([[0.5, 0.5]], [[1, 1]], [0, 0], r"shape of slot\.source_T"),
        ([[0.3, 0.3, 0.4]], [[1, 1, 1]], [0], r"experts of slot\.placement is 2; expected 3"),
        ([[0.5, -0.5]], [[1, 1]], [0], r"scores_TE\[0, 1\] is -0.5"),
        ([[np.nan, 0.5]], [[1, 1]], [0], r"scores_TE\[0, 0\] is nan"),
        ([[0.5, 0.5]], [[1, -1]], [0], r"energy_j_TE\[0, 1\] is -1.0"),
        ([[0.5, 0.5]], [[np.nan, 1]], [0], r"energy_j_TE\[0, 0\] is nan"),
    ],
)
def test_every_policy_refuses_wrong_inputs(
    spec: str, scores: list[float], price: list[float], source: list[int], named: str
) -> None:
    with pytest.raises(InvalidInputError, match=named):
        make_policy(spec).route(scores, Cost(price), Slot(np.array(source), np.array([0, 1])))


@pytest.mark.parametrize("spec", SPECS)
def test_every_policy_refuses_what_is_no_cost(spec: str) -> None:
    with pytest.raises(InvalidInputError, match=r"cost is 'list'; expected a Cost of energy_j_TE"):
        make_policy(spec).route([[0.5]], [[1.0]], Slot(np.array([0]), np.array([0])))  # type: ignore[arg-type]


def test_a_slot_refuses_nodes_that_its_links_do_not_have() -> None:
    links = Links.from_snr(0.0, Ofdma(subcarriers=2), nodes=2)
    with pytest.raises(InvalidInputError, match=r"placement\[1, 0\] is 2; expected a node up to 1"):
        Slot(np.array([0]), np.array([0, 2]), links)


@pytest.mark.parametrize("shape", [(2, 3), (3, 2), (1, 2)])
def test_a_slot_refuses_an_snr_of_other_items_or_experts(shape: tuple[int, int]) -> None:
    with pytest.raises(InvalidInputError, match=r"shape of snr is .*; expected \(T, E\) = \(2, 2\)"):
        Slot(np.array([0, 0]), np.array([1, 2]), snr=LinkSnr(np.zeros(shape)))


def test_a_slot_of_some_items_keeps_their_snr_and_bits() -> None:
    true_TE, seen_TE = np.arange(6.0).reshape(3, 2), np.arange(6.0, 12.0).reshape(3, 2)
    slot = Slot(
        np.array([4, 5, 6]), np.array([1, 2]), bits_T=np.array([7.0, 8.0, 9.0]), snr=LinkSnr(true_TE, seen_TE)
    )
    some = slot.of_items(np.array([2, 0]))
    assert some.source_T.tolist() == [6, 4]
    assert some.bits_T.tolist() == [9.0, 7.0]
    assert some.snr.true_db_TE.tolist() == true_TE[[2, 0]].tolist()
    assert some.observed_snr_db_TE.tolist() == seen_TE[[2, 0]].tolist()


def test_a_slot_shows_the_snr_of_its_items_before_that_of_its_links() -> None:
    links = Links.from_snr(3.0, Ofdma(subcarriers=2), nodes=2)
    own, seen_TE = Slot(np.array([0]), np.array([1]), links), np.array([[12.0]])
    np.testing.assert_allclose(own.observed_snr_db_TE, [[3.0]], rtol=1e-6)
    with_snr = Slot(np.array([0]), np.array([1]), links, snr=LinkSnr([[1.0]], seen_TE))
    assert with_snr.observed_snr_db_TE.tolist() == [[12.0]]
    assert Slot(np.array([0]), np.array([1])).observed_snr_db_TE is None


def test_layers_count_from_one() -> None:
    with pytest.raises(InvalidInputError, match="layer is 0"):
        Slot(np.array([0]), np.array([0]), layer=0)


@pytest.mark.parametrize("spec", SPECS)
def test_a_policy_is_called_what_it_was_made_from(spec: str) -> None:
    assert make_policy(spec).name == spec


@pytest.mark.parametrize(
    ("spec", "policy"),
    [
        ("topk:3", TopK(3)),
        ("random:1", RandomK(1, seed=7)),
        ("local", Local()),
        ("all", All()),
        ("cheapest:2", Cheapest(2)),
        ("best-link:2", BestLink(2)),
        ("wlr:0.25", Wlr(0.25)),
        ("wlr:0.25:0.5", Wlr(0.25, 0.5)),
        ("des:0.25:4", Des(0.25, 4)),
        ("des:0.25:4:0.5", Des(0.25, 4, z=0.5)),
    ],
)
def test_a_policy_is_made_from_its_name(spec: str, policy: Policy) -> None:
    assert make_policy(spec, seed=7) == policy


@pytest.mark.parametrize(
    "spec", ["", "best", "topk", "topk:two", "topk:1:2", "local:1", "des:0.5", "des:x:2", "TOPK:2"]
)
def test_an_unknown_policy_is_refused_with_the_known_ones(spec: str) -> None:
    with pytest.raises(
        InvalidInputError,
        match=r"topk:K, random:K, cheapest:K, best-link:K, local, all, wlr:THETA\[:COMPUTE_S\], des:",
    ) as error:
        make_policy(spec)
    assert error.value.value == spec


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ("topk:0", "k is 0"),
        ("random:-1", "k is -1"),
        ("best-link:0", "k is 0"),
        ("des:1.5:2", "importance is 1.5"),
        ("des:nan:2", "importance is nan"),
        ("des:0.5:0", "max_experts is 0"),
        ("des:0.5:2:2", "z is 2.0"),
    ],
)
def test_a_parameter_out_of_range_is_named(spec: str, named: str) -> None:
    with pytest.raises(InvalidInputError, match=named):
        make_policy(spec)
