"""Routing again around what was lost, over a carrier that runs NumPy experts and really loses some."""

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from airmoe.dispatch import Price
from airmoe.dispatch.loop import Delivery, Dispatched, dispatch
from airmoe.errors import NoExpertReachedError
from airmoe.scheduling import All, Des, Local, Policy, RandomK, Slot, TopK

PRICE_J = np.array([1.0, 2.0, 4.0, 8.0])
SCORES = np.array([[0.4, 0.3, 0.2, 0.1]])


@dataclass
class LossyCarrier:
    """Expert e answers (e + 1) * payload; the experts in ``dead`` never answer remote nodes."""

    price_E: NDArray[np.float64]
    dead: set[int] = field(default_factory=set)
    delay_s: float = 0.0
    calls: list[list[tuple[int, int]]] = field(default_factory=list)
    limits_s: list[float] = field(default_factory=list)

    links = None

    def payload_bits(self, payload_T: NDArray[np.float64]) -> int:
        return 32

    def price_j(self, slot: Slot, subcarrier_NN: NDArray[np.int64] | None = None) -> Price:
        local_TE = slot.source_T[:, None] == slot.placement_E
        return Price(np.where(local_TE, 0.0, self.price_E), np.where(local_TE, 0.0, self.price_E))

    def carry(
        self,
        payload_T: NDArray[np.float64],
        item_P: NDArray[np.int64],
        expert_P: NDArray[np.int64],
        slot: Slot,
        experts: Any,
        deadline_s: float,
    ) -> Delivery[NDArray[np.float64]]:
        self.calls.append(list(zip(item_P.tolist(), expert_P.tolist(), strict=True)))
        self.limits_s.append(deadline_s)
        time.sleep(min(self.delay_s, deadline_s))
        remote_P = slot.source_T[item_P] != slot.placement_E[expert_P]
        arrives_P = ~(remote_P & np.isin(expert_P, list(self.dead)))
        item_P, expert_P = item_P[arrives_P], expert_P[arrives_P]
        return Delivery(item_P, expert_P, payload_T[item_P] * (expert_P + 1))


def send(
    carrier: LossyCarrier,
    policy: Policy,
    scores_TE: NDArray[np.float64] = SCORES,
    *,
    source: int | list[int] = 9,
    deadline_s: float = 2.0,
) -> Dispatched[NDArray[np.float64]]:
    """Dispatch items from node 9, which has no expert, or from others; expert e is on node e."""
    items, experts = scores_TE.shape
    slot = Slot(np.broadcast_to(source, items).astype(np.int64), np.arange(experts))
    return dispatch(np.ones(items), scores_TE, policy, carrier, slot, None, deadline_s=deadline_s)


def arrived(dispatched: Dispatched[NDArray[np.float64]], item: int = 0) -> list[int]:
    return np.flatnonzero(dispatched.arrived_TE[item]).tolist()


def test_without_losses_every_pair_is_asked_for_once_in_one_round() -> None:
    carrier = LossyCarrier(PRICE_J)
    dispatched = send(carrier, TopK(2))
    assert carrier.calls == [[(0, 0), (0, 1)]]
    assert arrived(dispatched) == [0, 1]
    assert not dispatched.rerouted_T.any()
    assert not dispatched.degraded_T.any()
    assert dispatched.energy_j_T.tolist() == [1.0 + 2.0]


def test_pairs_come_to_the_carrier_sorted_by_expert() -> None:
    carrier = LossyCarrier(PRICE_J)
    send(carrier, All(), np.full((3, 4), 0.25))
    assert [expert for _, expert in carrier.calls[0]] == sorted([0, 1, 2, 3] * 3)


def test_an_item_is_routed_again_without_the_expert_that_was_lost() -> None:
    carrier = LossyCarrier(PRICE_J, dead={0})
    dispatched = send(carrier, TopK(1))
    assert carrier.calls == [[(0, 0)], [(0, 1)]]
    assert arrived(dispatched) == [1]
    assert dispatched.rerouted_T.all()
    assert not dispatched.degraded_T.any()


def test_the_policy_decides_who_stands_in_not_a_fixed_rule() -> None:
    # Without expert 1, the cheapest pair with scores >= 0.5 is {0, 2} at 5 J, though 3 is the next index.
    carrier = LossyCarrier(PRICE_J, dead={1})
    dispatched = send(carrier, Des(importance=0.5, max_experts=2))
    assert carrier.calls == [[(0, 0), (0, 1)], [(0, 2)]]
    assert arrived(dispatched) == [0, 2]


def test_what_has_arrived_costs_nothing_more_when_the_policy_decides_again() -> None:
    # Without expert 0, {2, 3} is cheapest at full price (4.0 J against 4.1 J); but 1 has been paid for.
    carrier = LossyCarrier(np.array([1.0, 2.0, 2.1, 1.9]), dead={0})
    dispatched = send(carrier, Des(importance=0.5, max_experts=2), np.array([[0.25, 0.25, 0.3, 0.2]]))
    assert carrier.calls == [[(0, 0), (0, 1)], [(0, 2)]]
    assert dispatched.energy_j_T.tolist() == pytest.approx([1.0 + 2.0 + 2.1])


def test_the_policy_decides_on_quotes_and_charges_are_what_is_paid() -> None:
    class Misjudging(LossyCarrier):
        def price_j(self, slot: Slot, subcarrier_NN: NDArray[np.int64] | None = None) -> Price:
            return Price(np.array([[9.0, 1.0, 1.0, 1.0]]), np.array([[1.0, 20.0, 30.0, 40.0]]))

    dispatched = send(Misjudging(PRICE_J), Des(importance=0.5, max_experts=2))
    assert arrived(dispatched) == [1, 2]
    assert dispatched.energy_j_T.tolist() == [50.0]


def test_energy_counts_lost_transfers_too() -> None:
    assert send(LossyCarrier(PRICE_J, dead={0, 1}), TopK(1)).energy_j_T.tolist() == [1.0 + 2.0 + 4.0]


def test_requested_lists_what_was_lost_as_well() -> None:
    dispatched = send(LossyCarrier(PRICE_J, dead={0}), TopK(2))
    assert dispatched.requested_TE.tolist() == [[True, True, True, False]]
    assert dispatched.arrived_TE.tolist() == [[False, True, True, False]]


def test_a_pair_that_was_delivered_is_not_asked_for_again() -> None:
    carrier = LossyCarrier(PRICE_J, dead={0})
    send(carrier, TopK(3))
    assert carrier.calls == [[(0, 0), (0, 1), (0, 2)], [(0, 3)]]


def test_only_items_that_lost_an_expert_are_routed_again() -> None:
    carrier = LossyCarrier(PRICE_J, dead={0})
    dispatched = send(carrier, TopK(1), np.array([[0.9, 0.1, 0, 0], [0, 0.2, 0.8, 0]]))
    assert carrier.calls[1] == [(0, 1)]
    assert dispatched.rerouted_T.tolist() == [True, False]


def test_the_own_expert_answers_as_a_last_resort_and_is_marked() -> None:
    class Remote(TopK):
        """Top-k that never asks the item's own node."""

        def route(self, scores_TE: Any, price_j_TE: Any, slot: Slot) -> Any:
            own_TE = slot.source_T[:, None] == slot.placement_E
            return super().route(scores_TE, np.where(own_TE, np.inf, price_j_TE), slot)

    dispatched = send(LossyCarrier(PRICE_J, dead={0, 1, 2}), Remote(1), source=3)
    assert arrived(dispatched) == [3]
    assert dispatched.degraded_T.tolist() == [True]
    assert dispatched.deliveries[-1].output_P.tolist() == [4.0]


def test_an_own_expert_that_the_policy_is_left_with_is_a_last_resort_too() -> None:
    favourite_own, favourite_other = [0.1, 0.1, 0.1, 0.7], [0.7, 0.1, 0.1, 0.1]
    scores_TE = np.array([favourite_own, favourite_other])
    dispatched = send(LossyCarrier(PRICE_J, dead={0, 1, 2}), TopK(1), scores_TE, source=3)
    assert dispatched.arrived_TE.tolist() == [[False, False, False, True]] * 2
    assert dispatched.degraded_T.tolist() == [False, True]


def test_an_own_expert_that_stands_in_while_others_could_is_not_degraded() -> None:
    dispatched = send(LossyCarrier(PRICE_J, dead={0}), TopK(1), np.array([[0.5, 0.1, 0.1, 0.3]]), source=3)
    assert arrived(dispatched) == [3]
    assert not dispatched.degraded_T.any()


def test_a_policy_cannot_ask_experts_that_are_out_of_reach() -> None:
    class Stubborn(TopK):
        """Asks the best experts whether they can be reached or not."""

        def route(self, scores_TE: Any, price_j_TE: Any, slot: Slot) -> Any:
            return super().route(scores_TE, np.zeros_like(price_j_TE), slot)

    carrier = LossyCarrier(PRICE_J, dead={0, 1, 2})
    dispatched = send(carrier, Stubborn(1), source=3)
    assert carrier.calls == [[(0, 0)], [(0, 3)]]
    assert dispatched.degraded_T.tolist() == [True]


def test_without_time_only_the_own_expert_is_asked() -> None:
    carrier = LossyCarrier(PRICE_J)
    dispatched = send(carrier, TopK(1), source=2, deadline_s=0.0)
    assert carrier.calls == [[(0, 2)]]
    assert dispatched.degraded_T.all()
    assert not dispatched.energy_j_T.any()


def test_an_item_that_nobody_answers_is_an_error_that_names_it() -> None:
    carrier = LossyCarrier(PRICE_J, dead={0, 1, 2, 3})
    with pytest.raises(NoExpertReachedError, match=r"item 1 at node 9: no expert answered within 2\.0 s"):
        send(carrier, TopK(1), np.repeat(SCORES, 2, axis=0), source=[0, 9])
    assert carrier.calls == [[(0, 0), (1, 0)], [(1, 1)], [(1, 2)], [(1, 3)]]  # everyone was tried


def test_a_policy_that_chooses_nobody_leaves_the_item_to_its_own_node_or_fails() -> None:
    with pytest.raises(NoExpertReachedError):
        send(LossyCarrier(PRICE_J), Local(), source=9)


def test_an_unreachable_expert_is_never_asked() -> None:
    carrier = LossyCarrier(np.array([np.inf, 2.0, 4.0, 8.0]))
    dispatched = send(carrier, TopK(1))
    assert carrier.calls == [[(0, 1)]]
    assert dispatched.energy_j_T.tolist() == [2.0]


def test_each_attempt_may_take_half_of_the_time_that_is_left() -> None:
    carrier = LossyCarrier(PRICE_J, dead={0, 1}, delay_s=0.1)
    send(carrier, TopK(1), deadline_s=2.0)
    first, second, third = carrier.limits_s
    assert 0.8 < first <= 1.0
    assert second <= first - 0.1 / 2 + 1e-9
    assert third <= second - 0.1 / 2 + 1e-9


def test_the_deadline_ends_the_attempts() -> None:
    carrier = LossyCarrier(PRICE_J, dead={0, 1, 2, 3}, delay_s=10.0)
    begin = time.monotonic()
    with pytest.raises(NoExpertReachedError):
        send(carrier, TopK(1), deadline_s=0.2)
    assert time.monotonic() - begin < 1.0


def test_outputs_lie_in_the_deliveries_beside_their_pairs() -> None:
    dispatched = send(LossyCarrier(PRICE_J, dead={0}), TopK(2))
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
    carrier = LossyCarrier(PRICE_J, dead)
    dispatched = send(carrier, policy, scores_TE)
    asked = [pair for call in carrier.calls for pair in call]
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
    dispatched = send(LossyCarrier(np.ones(5), dead), TopK(k), scores_TE)
    for row, arrived_E in zip(scores_TE, dispatched.arrived_TE, strict=True):
        living = sorted((e for e in range(5) if e not in dead), key=lambda e: (-row[e], e))
        assert np.flatnonzero(arrived_E).tolist() == sorted(living[:k])
