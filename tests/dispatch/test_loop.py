"""Routing again around what was lost, over a carrier that runs NumPy experts and loses what it is told to."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from airmoe.dispatch import Delivery, Dispatched, LossyCarrier, ManualClock, Price, Transfer, dispatch
from airmoe.errors import InvalidInputError, NoExpertReachedError
from airmoe.scheduling import All, Cost, Des, Local, Placement, Policy, RandomK, Routing, Slot, TopK

PRICE_J = np.array([1.0, 2.0, 4.0, 8.0])
SCORES = np.array([[0.4, 0.3, 0.2, 0.1]])


class Multiplying:
    """Expert e answers (e + 1) * payload; a transfer to node n costs ``price_N[n]``, at home nothing."""

    links = None

    def __init__(self, price_N: NDArray[np.float64] = PRICE_J) -> None:
        self.price_N = price_N

    def payload_bits(self, payload_T: NDArray[np.float64]) -> int:
        return 32

    def price(
        self, payload_T: NDArray[np.float64], slot: Slot, subcarrier_NN: NDArray[np.int64] | None = None
    ) -> Price:
        energy_j_TE = np.where(slot.at_home_TE, 0.0, self.price_N[slot.node_TE])
        cost = Cost(energy_j_TE, 0.1 * energy_j_TE)
        return Price(cost, cost)

    def can_ask(self, slot: Slot) -> NDArray[np.bool_]:
        return np.ones(slot.placement.node_ER.shape, np.bool_)

    def carry(self, transfer: Transfer[NDArray[np.float64]]) -> Delivery[NDArray[np.float64]]:
        output_P = transfer.payload_T[transfer.item_P] * (transfer.expert_P + 1)
        return Delivery(transfer.item_P, transfer.expert_P, output_P)


def lossy(*lost: int, dead: tuple[int, ...] = (), price: NDArray[np.float64] = PRICE_J) -> LossyCarrier:
    return LossyCarrier(Multiplying(price), lost=lost, dead=dead)


def calls(carrier: LossyCarrier) -> list[list[tuple[int, int]]]:
    """The (item, expert) pairs of each transfer."""
    return [list(zip(t.item_P.tolist(), t.expert_P.tolist(), strict=True)) for t in carrier.transfers]


def send(
    carrier: Any,
    policy: Policy,
    scores_TE: NDArray[np.float64] = SCORES,
    *,
    source: int | list[int] = 9,
    placement: Placement | None = None,
    **options: Any,
) -> Dispatched[NDArray[np.float64]]:
    """Dispatch items from node 9, which has no expert, or from others; expert e is on node e."""
    items, experts = scores_TE.shape
    slot = Slot(np.broadcast_to(source, items).astype(np.int64), placement or np.arange(experts))
    return dispatch(np.ones(items), scores_TE, policy, carrier, slot, **options)


def arrived(dispatched: Dispatched[NDArray[np.float64]], item: int = 0) -> list[int]:
    return np.flatnonzero(dispatched.arrived_TE[item]).tolist()


def test_without_losses_every_pair_is_asked_for_once_in_one_round() -> None:
    carrier = lossy()
    dispatched = send(carrier, TopK(2))
    assert calls(carrier) == [[(0, 0), (0, 1)]]
    assert arrived(dispatched) == [0, 1]
    assert not dispatched.rerouted_T.any()
    assert not dispatched.degraded_T.any()
    assert dispatched.energy_j_T.tolist() == [1.0 + 2.0]
    assert dispatched.airtime_s_T.tolist() == pytest.approx([0.1 + 0.2])
    assert dispatched.reached_T.tolist() == [1.0]


def test_pairs_come_to_the_carrier_sorted_by_expert() -> None:
    carrier = lossy()
    send(carrier, All(), np.full((3, 4), 0.25))
    assert [expert for _, expert in calls(carrier)[0]] == sorted([0, 1, 2, 3] * 3)


def test_an_item_is_routed_again_without_the_expert_that_was_lost() -> None:
    carrier = lossy(0)
    dispatched = send(carrier, TopK(1))
    assert calls(carrier) == [[(0, 0)], [(0, 1)]]
    assert arrived(dispatched) == [1]
    assert dispatched.rerouted_T.all()


def test_the_policy_decides_who_stands_in_not_a_fixed_rule() -> None:
    # Without expert 1, the cheapest pair with scores >= 0.5 is {0, 2} at 5 J, though 3 is the next index.
    carrier = lossy(1)
    dispatched = send(carrier, Des(importance=0.5, max_experts=2))
    assert calls(carrier) == [[(0, 0), (0, 1)], [(0, 2)]]
    assert arrived(dispatched) == [0, 2]


def test_what_has_arrived_costs_nothing_more_when_the_policy_decides_again() -> None:
    # Without expert 0, {2, 3} is cheapest at full price (4.0 J against 4.1 J); but 1 has been paid for.
    carrier = lossy(0, price=np.array([1.0, 2.0, 2.1, 1.9]))
    dispatched = send(carrier, Des(importance=0.5, max_experts=2), np.array([[0.25, 0.25, 0.3, 0.2]]))
    assert calls(carrier) == [[(0, 0), (0, 1)], [(0, 2)]]
    assert dispatched.energy_j_T.tolist() == pytest.approx([1.0 + 2.0 + 2.1])


def test_the_policy_decides_on_quotes_and_charges_are_what_is_paid() -> None:
    class Misjudging(Multiplying):
        def price(self, payload_T: Any, slot: Slot, subcarrier_NN: Any = None) -> Price:
            return Price(Cost([[9.0, 1.0, 1.0, 1.0]]), Cost([[1.0, 20.0, 30.0, 40.0]]))

    dispatched = send(Misjudging(), Des(importance=0.5, max_experts=2))
    assert arrived(dispatched) == [1, 2]
    assert dispatched.energy_j_T.tolist() == [50.0]


def test_energy_counts_lost_transfers_too() -> None:
    dispatched = send(lossy(0, 1), TopK(1))
    assert dispatched.energy_j_T.tolist() == [1.0 + 2.0 + 4.0]
    assert dispatched.airtime_s_T.tolist() == pytest.approx([0.1 + 0.2 + 0.4])


def test_requested_lists_what_was_lost_as_well() -> None:
    dispatched = send(lossy(0), TopK(2))
    assert dispatched.requested_TE.tolist() == [[True, True, True, False]]
    assert dispatched.arrived_TE.tolist() == [[False, True, True, False]]


def test_a_pair_that_was_delivered_is_not_asked_for_again() -> None:
    carrier = lossy(0)
    send(carrier, TopK(3))
    assert calls(carrier) == [[(0, 0), (0, 1), (0, 2)], [(0, 3)]]


def test_only_items_that_lost_an_expert_are_routed_again() -> None:
    carrier = lossy(0)
    dispatched = send(carrier, TopK(1), np.array([[0.9, 0.1, 0, 0], [0, 0.2, 0.8, 0]]))
    assert calls(carrier)[1] == [(0, 1)]
    assert dispatched.rerouted_T.tolist() == [True, False]


def test_the_own_expert_answers_as_a_last_resort_and_is_marked() -> None:
    class Remote(TopK):
        """Top-k that never asks the item's own node."""

        def route(self, scores_TE: Any, cost: Cost, slot: Slot) -> Any:
            return super().route(scores_TE, cost.where(~slot.at_home_TE), slot)

    dispatched = send(lossy(0, 1, 2), Remote(1), source=3)
    assert arrived(dispatched) == [3]
    assert dispatched.degraded_T.tolist() == [True]
    assert dispatched.deliveries[-1].output_P.tolist() == [4.0]


@pytest.mark.parametrize("known", [False, True])
def test_an_item_is_degraded_if_an_expert_that_it_wanted_is_gone_whether_that_was_known_or_not(
    known: bool,
) -> None:
    gone = (0, 1, 2)
    carrier = lossy(dead=gone) if known else lossy(*gone)
    wants_own, wants_another = [0.1, 0.1, 0.1, 0.7], [0.7, 0.1, 0.1, 0.1]
    dispatched = send(carrier, TopK(1), np.array([wants_own, wants_another]), source=3)
    assert dispatched.arrived_TE.tolist() == [[False, False, False, True]] * 2
    assert dispatched.degraded_T.tolist() == [False, True]
    assert dispatched.reached_T.tolist() == [1.0, 0.0]
    assert dispatched.intended_TE.tolist() == [[False, False, False, True], [True, False, False, False]]


@pytest.mark.parametrize("known", [False, True])
def test_whoever_stands_in_for_the_first_choice_the_answer_is_marked(known: bool) -> None:
    carrier = lossy(dead=(0,)) if known else lossy(0)
    dispatched = send(carrier, TopK(2), np.array([[0.5, 0.3, 0.2, 0.0]]))
    assert arrived(dispatched) == [1, 2]
    assert dispatched.degraded_T.all()
    assert dispatched.reached_T.tolist() == pytest.approx([0.3 / 0.8])
    assert dispatched.rerouted_T.tolist() == [not known]
    assert calls(carrier)[0] == ([(0, 1), (0, 2)] if known else [(0, 0), (0, 1)])


def test_with_everyone_alive_nothing_is_marked() -> None:
    scores_TE = np.random.default_rng(0).dirichlet(np.ones(4), 50)
    for policy in (TopK(1), TopK(3), Des(0.5, 2), RandomK(2), All()):
        dispatched = send(lossy(), policy, scores_TE)
        assert not dispatched.degraded_T.any()
        assert (dispatched.reached_T == 1).all()


def test_a_dead_expert_that_nobody_wanted_marks_nothing() -> None:
    dispatched = send(lossy(dead=(3,)), TopK(2))
    assert not dispatched.degraded_T.any()


def test_scores_of_zero_count_as_reached_only_if_all_of_them_answered() -> None:
    nothing_TE = np.zeros((1, 4))
    assert send(lossy(), TopK(2), nothing_TE).reached_T.tolist() == [1.0]
    assert send(lossy(0), TopK(2), nothing_TE).reached_T.tolist() == [0.0]


TWICE = Placement.of([[0, 1], [1], [2, 3], [3]])
"""Expert 0 lives on nodes 0 and 1, expert 2 on nodes 2 and 3."""


def test_of_several_nodes_the_cheapest_is_asked() -> None:
    carrier = lossy(price=np.array([5.0, 2.0, 1.0, 3.0]))
    dispatched = send(carrier, All(), placement=TWICE)
    assert dispatched.node_TE.tolist() == [[1, 1, 2, 3]]
    assert dispatched.energy_j_T.tolist() == [2.0 + 2.0 + 1.0 + 3.0]


def test_an_item_s_own_node_is_asked_before_any_other() -> None:
    free = np.zeros(4)
    dispatched = send(lossy(price=free), All(), placement=TWICE, source=3)
    assert dispatched.node_TE.tolist() == [[0, 1, 3, 3]]


def test_another_node_stands_in_for_one_that_is_lost_and_nothing_is_marked() -> None:
    carrier = lossy(0)
    dispatched = send(carrier, TopK(1), placement=TWICE)
    assert [transfer.node_P.tolist() for transfer in carrier.transfers] == [[0], [1]]
    assert dispatched.node_TE.tolist() == [[1, -1, -1, -1]]
    assert dispatched.energy_j_T.tolist() == [1.0 + 2.0]
    assert dispatched.rerouted_T.all()
    assert not dispatched.degraded_T.any()


def test_a_node_that_is_known_to_be_dead_is_passed_over_for_the_other_that_holds_the_expert() -> None:
    carrier = lossy(dead=(0,))
    dispatched = send(carrier, TopK(1), placement=TWICE)
    assert [transfer.node_P.tolist() for transfer in carrier.transfers] == [[1]]
    assert not dispatched.degraded_T.any()


def test_an_expert_is_gone_only_with_its_last_node() -> None:
    dispatched = send(lossy(0, dead=(1,)), TopK(1), placement=TWICE)
    assert arrived(dispatched) == [2]  # expert 1 lives on the dead node, too
    assert dispatched.degraded_T.all()


def test_where_the_cheap_node_is_dead_the_policy_decides_again_by_what_the_other_costs() -> None:
    # Expert 0 is cheap at node 0 alone; without it the cheapest of a score of .3 is expert 1 at node 1.
    prices = np.array([1.0, 3.0, 2.5, 9.0])
    placement = Placement.of([[0, 3], [1], [2]])
    scores_TE = np.array([[0.4, 0.35, 0.25]])
    assert arrived(send(lossy(price=prices), Des(0.3, 1), scores_TE, placement=placement)) == [0]
    dispatched = send(lossy(dead=(0,), price=prices), Des(0.3, 1), scores_TE, placement=placement)
    assert arrived(dispatched) == [1]
    assert not dispatched.degraded_T.any()  # expert 0 could be asked, and was not worth it


def test_a_policy_cannot_ask_experts_that_are_out_of_reach() -> None:
    class Stubborn(TopK):
        """Asks the best experts whether they can be reached or not."""

        def route(self, scores_TE: Any, cost: Cost, slot: Slot) -> Any:
            return super().route(scores_TE, Cost(np.zeros_like(cost.energy_j_TE)), slot)

    carrier = lossy(0, 1, 2)
    dispatched = send(carrier, Stubborn(1), source=3)
    assert calls(carrier) == [[(0, 0)], [(0, 3)]]
    assert dispatched.degraded_T.tolist() == [True]


def test_without_time_only_the_own_expert_is_asked() -> None:
    carrier = lossy()
    dispatched = send(carrier, TopK(1), source=2, deadline_s=0.0)
    assert calls(carrier) == [[(0, 2)]]
    assert dispatched.degraded_T.all()
    assert not dispatched.energy_j_T.any()


def test_an_item_that_nobody_answers_is_an_error_that_names_it() -> None:
    carrier = lossy(0, 1, 2, 3)
    with pytest.raises(NoExpertReachedError, match=r"item 1 at node 9: no expert answered within 2 s"):
        send(carrier, TopK(1), np.repeat(SCORES, 2, axis=0), source=[0, 9])
    assert calls(carrier) == [[(0, 0), (1, 0)], [(1, 1)], [(1, 2)], [(1, 3)]]  # everyone was tried


def test_a_policy_that_chooses_nobody_leaves_the_item_to_its_own_node_or_fails() -> None:
    with pytest.raises(NoExpertReachedError):
        send(lossy(), Local(), source=9)


def test_an_item_for_which_the_policy_chose_nobody_is_marked_though_its_own_node_answers() -> None:
    class Selective(TopK):
        """Top-k that leaves out the items whose best score is low."""

        def route(self, scores_TE: Any, cost: Cost, slot: Slot) -> Any:
            routing = super().route(scores_TE, cost, slot)
            good_T1 = scores_TE.max(axis=1, keepdims=True) > 0.5
            return replace(routing, mask_TE=routing.mask_TE & good_T1)

    scores = np.array([[0.9, 0.1, 0, 0], [0.3, 0.3, 0.2, 0.2], [0.9, 0.1, 0, 0]])
    dispatched = send(lossy(0), Selective(1), scores, source=[3, 3, 2])
    assert [arrived(dispatched, item) for item in range(3)] == [[1], [3], [1]]
    assert dispatched.chose_none_T.tolist() == [False, True, False]
    assert dispatched.degraded_T.tolist() == [True, False, True]


def test_an_unreachable_expert_is_never_asked() -> None:
    carrier = lossy(price=np.array([np.inf, 2.0, 4.0, 8.0]))
    dispatched = send(carrier, TopK(1))
    assert calls(carrier) == [[(0, 1)]]
    assert dispatched.energy_j_T.tolist() == [2.0]


def test_each_attempt_may_take_half_of_the_time_that_is_left() -> None:
    clock = ManualClock()
    carrier = LossyCarrier(Multiplying(), lost=(0, 1), clock=clock, takes_s=0.5)
    send(carrier, TopK(1), deadline_s=2.0, clock=clock)
    assert [transfer.deadline_s for transfer in carrier.transfers] == [1.0, 0.75, 0.5]


def test_the_deadline_ends_the_attempts() -> None:
    clock = ManualClock(now_s=100.0)
    carrier = LossyCarrier(Multiplying(), lost=range(4), clock=clock, takes_s=1.0)
    with pytest.raises(NoExpertReachedError, match=r"within 2\.5 s"):
        send(carrier, TopK(1), deadline_s=2.5, clock=clock)
    assert len(carrier.transfers) < 8
    assert clock() <= 100.0 + 2.5


def test_outputs_lie_in_the_deliveries_beside_their_pairs() -> None:
    dispatched = send(lossy(0), TopK(2))
    pairs = [
        (int(item), int(expert), float(output))
        for delivery in dispatched.deliveries
        for item, expert, output in zip(delivery.item_P, delivery.expert_P, delivery.output_P, strict=True)
    ]
    assert pairs == [(0, 1, 2.0), (0, 2, 3.0)]


@given(
    scores=st.lists(st.lists(st.floats(0.01, 1), min_size=4, max_size=4), min_size=1, max_size=6),
    dead=st.sets(st.integers(0, 3), max_size=3),
    policy=st.sampled_from([TopK(1), TopK(2), Des(0.5, 2), All(), RandomK(2)]),
)
def test_whatever_is_lost_every_item_is_answered_and_the_books_balance(
    scores: list[list[float]], dead: set[int], policy: Policy
) -> None:
    scores_TE = np.array(scores)
    carrier = lossy(*dead)
    dispatched = send(carrier, policy, scores_TE)
    asked = [pair for call in calls(carrier) for pair in call]
    assert len(set(asked)) == len(asked)  # nothing is asked for twice
    assert set(asked) == set(zip(*(i.tolist() for i in np.nonzero(dispatched.requested_TE)), strict=True))
    assert (dispatched.arrived_TE <= dispatched.requested_TE).all()
    assert dispatched.arrived_TE.any(axis=1).all()
    assert not dispatched.arrived_TE[:, sorted(dead)].any()
    np.testing.assert_allclose(dispatched.energy_j_T, dispatched.requested_TE @ PRICE_J)
    came = [
        pair
        for d in dispatched.deliveries
        for pair in zip(d.item_P.tolist(), d.expert_P.tolist(), strict=True)
    ]
    assert sorted(came) == [(int(t), int(e)) for t, e in np.argwhere(dispatched.arrived_TE)]


@given(
    scores=st.lists(st.lists(st.floats(0, 1), min_size=5, max_size=5), min_size=1, max_size=6),
    k=st.integers(1, 5),
    dead=st.sets(st.integers(0, 4), max_size=4),
)
def test_top_k_around_losses_is_top_k_among_the_living(
    scores: list[list[float]], k: int, dead: set[int]
) -> None:
    scores_TE = np.array(scores)
    dispatched = send(lossy(*dead, price=np.ones(5)), TopK(k), scores_TE)
    for row, arrived_E in zip(scores_TE, dispatched.arrived_TE, strict=True):
        living = sorted((e for e in range(5) if e not in dead), key=lambda e: (-row[e], e))
        assert np.flatnonzero(arrived_E).tolist() == sorted(living[:k])


class Failing(TopK):
    """A policy with a mistake in it."""

    def route(self, scores_TE: Any, cost: Cost, slot: Slot) -> Any:
        if self.k == 1:
            raise InvalidInputError("k", 1, "another number")
        raise ZeroDivisionError


def test_an_error_of_a_policy_says_which_policy_it_was_and_of_how_many_items_and_experts() -> None:
    with pytest.raises(
        InvalidInputError, match=r"^policy topk:1, \(T, E\) = \(1, 4\): k is 1; expected"
    ) as said:
        send(lossy(), Failing(1))
    assert (said.value.name, said.value.expected) == ("k", "another number")
    with pytest.raises(ZeroDivisionError) as noted:
        send(lossy(), Failing(2))
    assert noted.value.__notes__ == ["airmoe: policy topk:2, (T, E) = (1, 4)"]


def test_an_error_of_a_carrier_says_which_carrier_it_was() -> None:
    class Torn(Multiplying):
        def carry(self, transfer: Any) -> Any:
            raise OSError("unplugged")

    with pytest.raises(OSError, match="unplugged") as noted:
        send(Torn(), TopK(1))
    assert noted.value.__notes__ == ["airmoe: carrier Torn, (T, E) = (1, 4)"]


def test_a_replica_stands_in_where_an_item_s_own_node_fails() -> None:
    class Unplugged(Multiplying):
        """Drops what stays at home."""

        def carry(self, transfer: Transfer[Any]) -> Any:
            away_P = ~transfer.at_home_P
            item_P, expert_P = transfer.item_P[away_P], transfer.expert_P[away_P]
            return Delivery(item_P, expert_P, transfer.payload_T[item_P] * (expert_P + 1))

    placement = Placement.of([[0, 1], [2]])
    dispatched = send(Unplugged(), TopK(1), np.array([[0.9, 0.1]]), source=0, placement=placement)
    assert dispatched.node_TE.tolist() == [[1, -1]]
    assert not dispatched.degraded_T.any()


def test_a_link_that_fails_one_source_is_still_tried_by_another() -> None:
    class Fading(Multiplying):
        """Loses what source 4 sends to node 0 and source 5 to node 1."""

        def carry(self, transfer: Transfer[Any]) -> Any:
            source_P = transfer.slot.source_T[transfer.item_P]
            faded_P = (source_P == 4) & (transfer.node_P == 0) | (source_P == 5) & (transfer.node_P == 1)
            return super().carry(transfer.of_pairs(~faded_P))

    scores_TE = np.array([[0.6, 0.3, 0.1, 0.0], [0.3, 0.6, 0.1, 0.0], [0.5, 0.3, 0.2, 0.0]])
    slot = Slot(np.array([4, 5, 4]), np.arange(4))
    done = dispatch(np.ones((3, 1)), scores_TE, TopK(1), Fading(), slot)
    assert done.requested_TE[:, :2].all()
    assert done.arrived_TE.argmax(axis=1).tolist() == [1, 0, 1]
    assert done.arrived_TE.sum() == 3


@pytest.mark.parametrize("policy", [TopK(1), All(), Des(0.5, 2), RandomK(1)])
def test_a_carrier_that_never_delivers_ends_without_a_deadline(policy: Policy) -> None:
    class Silent(Multiplying):
        def carry(self, transfer: Transfer[Any]) -> Any:
            nothing = np.empty(0, np.int64)
            return Delivery(nothing, nothing, transfer.payload_T[:0])

    for source in (0, 9):
        with pytest.raises(NoExpertReachedError):
            send(Silent(), policy, source=source, placement=TWICE, deadline_s=np.inf)


def test_what_a_policy_does_to_its_mask_later_changes_no_mark() -> None:
    class Reusing(TopK):
        """Writes every decision into the same buffer."""

        buffer = np.zeros((1, 4), np.bool_)

        def route(self, scores_TE: Any, cost: Cost, slot: Slot) -> Any:
            routing = super().route(scores_TE, cost, slot)
            self.buffer[:] = routing.mask_TE
            return Routing(self.buffer, routing.energy_j_T, routing.feasible_T)

    dispatched = send(lossy(0), Reusing(1))
    assert dispatched.intended_TE.tolist() == [[True, False, False, False]]
    assert dispatched.degraded_T.all()


@pytest.mark.parametrize("taken", ["scores_TE", "energy_j_TE"])
def test_a_policy_cannot_change_scores_or_costs(taken: str) -> None:
    class Vandal(TopK):
        def route(self, scores_TE: Any, cost: Cost, slot: Slot) -> Any:
            (scores_TE if taken == "scores_TE" else cost.energy_j_TE)[:] = 0
            return super().route(scores_TE, cost, slot)

    with pytest.raises(ValueError, match="read-only") as noted:
        send(lossy(), Vandal(1))
    assert noted.value.__notes__ == ["airmoe: policy topk:1, (T, E) = (1, 4)"]


@pytest.mark.parametrize(
    ("mask", "named"),
    [
        (np.ones((1, 4)), r"float64, \(1, 4\)"),
        (np.ones(4, np.bool_), r"bool, \(4,\)"),
        (np.ones((2, 4), np.bool_), r"bool, \(2, 4\)"),
    ],
)
def test_a_mask_of_another_kind_is_refused_with_the_policy_s_name(mask: Any, named: str) -> None:
    class Wrong(TopK):
        def route(self, scores_TE: Any, cost: Cost, slot: Slot) -> Any:
            return Routing(mask, np.zeros(1), np.ones(1, np.bool_))

    with pytest.raises(InvalidInputError, match=rf"^policy topk:1, .*: mask_TE is '{named}'; expected bool"):
        send(lossy(), Wrong(1))


@pytest.mark.parametrize(("item", "expert"), [([0], [1]), ([0, 0], [0, 0]), ([-1], [0]), ([0], [9])])
def test_a_delivery_that_nobody_asked_for_is_refused(item: list[int], expert: list[int]) -> None:
    class Eager(Multiplying):
        def carry(self, transfer: Transfer[Any]) -> Any:
            return Delivery(np.array(item), np.array(expert), np.ones(len(item)))

    with pytest.raises(InvalidInputError, match=r"^carrier Eager, .*: delivered \(item, expert\) is"):
        send(Eager(), TopK(1))


def test_a_carrier_that_answers_for_other_replicas_is_refused() -> None:
    class Flat(Multiplying):
        def can_ask(self, slot: Slot) -> Any:
            return np.ones(4, np.bool_)

    with pytest.raises(InvalidInputError, match=r"shape of can_ask is \(4,\); expected \(E, R\) = \(4, 1\)"):
        send(Flat(), TopK(1))


def test_a_deadline_that_is_no_number_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="deadline_s is nan"):
        send(lossy(), TopK(1), deadline_s=np.nan)


def test_computing_is_charged_wherever_it_is_done_and_policies_see_it() -> None:
    scores_TE = np.array([[0.5, 0.5], [0.5, 0.5]])
    slot = Slot([0, 1], Placement([0, 1], compute_j=[0.25, 16.0]))
    done = dispatch(np.ones((2, 1)), scores_TE, All(), Multiplying(PRICE_J[:2]), slot)
    assert done.energy_j_T.tolist() == [0.25 + 16.0 + 2.0, 1.0 + 0.25 + 16.0]
    assert done.airtime_s_T.tolist() == [0.2, 0.1]
    cheapest = dispatch(np.ones((2, 1)), scores_TE, Des(0.5, 1), Multiplying(PRICE_J[:2]), slot)
    assert cheapest.requested_TE.tolist() == [[True, False], [True, False]]  # not at home, for 16 J


class Nobody(TopK):
    """Chooses no expert."""

    def route(self, scores_TE: Any, cost: Cost, slot: Slot) -> Any:
        routing = super().route(scores_TE, cost, slot)
        return replace(routing, mask_TE=np.zeros_like(routing.mask_TE))


@pytest.mark.parametrize("policy", [Local(), Nobody(1), All()])
def test_computing_at_home_is_charged_as_a_last_resort_too(policy: Policy) -> None:
    slot, clock = Slot([0, 1], Placement([0, 1], compute_j=[0.25, 16.0])), ManualClock()
    carrier = LossyCarrier(Multiplying(PRICE_J[:2]), lost={0, 1}, clock=clock, takes_s=0.0)
    done = dispatch(np.ones((2, 1)), np.full((2, 2), 0.5), policy, carrier, slot, deadline_s=1.0, clock=clock)
    assert done.arrived_TE.tolist() == [[True, False], [False, True]]
    away_j = [16.0 + 2.0, 0.25 + 1.0] if isinstance(policy, All) else [0.0, 0.0]
    assert done.energy_j_T.tolist() == [0.25 + away_j[0], 16.0 + away_j[1]]
