"""Policies that decide for all sources together, and what dispatch makes of their subcarriers."""

from typing import Any

import numpy as np
import pytest

from airmoe.dispatch import Delivery, Dispatched, IdealPrice, LossyCarrier, Price, Transfer, dispatch
from airmoe.errors import InvalidInputError, NotScheduledError
from airmoe.links import Links, Ofdma, RayleighFading
from airmoe.scheduling import (
    Cost,
    Des,
    Homogeneous,
    Jesa,
    JointPolicy,
    Placement,
    Routing,
    Slot,
    TopK,
    make_policy,
    schedule_layer,
)
from tests.scheduling.joint.joint_optimum import instance

RADIO = Ofdma(subcarriers=24)
NODES, ITEMS, BITS = 5, 40, 12800.0
SPECS = ["jesa:0.5:2", "jesa:0.5:2:0.8", "jesa:0.5:2:1:3", "homogeneous:0.5:2", "homogeneous:0.5:2:3"]


def slot_of(seed: int = 0, layer: int = 1) -> tuple[np.ndarray, Slot]:
    scores_TE, source_T, gain_NNM = instance(NODES, RADIO.subcarriers, ITEMS, seed)
    links = Links.from_gain(gain_NNM, RADIO)
    return scores_TE, Slot(source_T, np.arange(NODES), links, layer, np.full(ITEMS, BITS))


def test_jesa_is_the_joint_schedule_of_its_layer() -> None:
    scores_TE, slot = slot_of(layer=2)
    assert slot.links is not None
    routing = Jesa(0.7, 3, z=0.9).route(scores_TE, Cost(np.ones_like(scores_TE)), slot)
    plan = schedule_layer(
        scores_TE, slot.source_T, slot.links.gain_NNM, RADIO,
        threshold=0.9 * 0.7**2, max_experts=3, token_bits=BITS,
    )  # fmt: skip
    np.testing.assert_array_equal(routing.mask_TE, plan.selection.mask)
    np.testing.assert_array_equal(routing.subcarrier_NN, plan.subcarrier)
    np.testing.assert_array_equal(routing.energy_j_T, plan.selection.energy_j)


def test_restarts_of_a_policy_find_cheaper_schedules() -> None:
    dearer = 0
    for seed in range(20):
        scores_TE, slot = slot_of(seed)
        once, often = (
            make_policy(name).route(scores_TE, Cost(np.ones_like(scores_TE)), slot).energy_j_T.sum()
            for name in ("jesa:0.5:2", "jesa:0.5:2:1:20")
        )
        assert often <= once
        dearer += often < once
    assert dearer > 2


def test_homogeneous_asks_the_same_of_every_layer_and_jesa_less_of_deeper_ones() -> None:
    spent = {
        name: [
            make_policy(name).route(scores_TE, Cost(np.ones_like(scores_TE)), slot).energy_j_T.sum()
            for scores_TE, slot in (slot_of(layer=layer) for layer in (1, 2, 4))
        ]
        for name in ("jesa:0.6:2", "homogeneous:0.6:2")
    }
    assert spent["homogeneous:0.6:2"][0] == spent["homogeneous:0.6:2"][2]
    assert spent["jesa:0.6:2"][0] == spent["homogeneous:0.6:2"][0]
    assert spent["jesa:0.6:2"][0] > spent["jesa:0.6:2"][1] > spent["jesa:0.6:2"][2]


@pytest.mark.parametrize("spec", SPECS)
def test_a_joint_policy_is_called_what_it_was_made_from_and_names_its_fallback(spec: str) -> None:
    policy = make_policy(spec)
    assert policy.name == spec
    assert policy.joint
    assert isinstance(policy, JointPolicy)
    assert isinstance(policy.fallback, Des)
    assert not policy.fallback.joint


def test_the_fallback_asks_for_as_much() -> None:
    assert Jesa(0.3, 4, z=0.9).fallback == Des(0.3, 4, 0.9)
    assert Homogeneous(0.4, 3).fallback == Des(1.0, 3, 0.4)


def test_a_policy_of_one_source_names_no_fallback() -> None:
    assert not isinstance(TopK(1), JointPolicy)


@pytest.mark.parametrize("spec", SPECS)
def test_unreachable_experts_are_not_chosen(spec: str) -> None:
    scores_TE, slot = slot_of()
    price_TE = np.where(np.random.default_rng(0).random(scores_TE.shape) < 0.5, 1.0, np.inf)
    assert not make_policy(spec).route(scores_TE, Cost(price_TE), slot).mask_TE[np.isinf(price_TE)].any()


@pytest.mark.parametrize("spec", SPECS)
def test_links_and_payload_sizes_are_asked_for_by_name(spec: str) -> None:
    policy, links = make_policy(spec), RayleighFading(2, RADIO).at(0)
    with pytest.raises(InvalidInputError, match=f"slot.links is None; .*{spec}"):
        policy.route([[0.5, 0.5]], Cost([[0, 0]]), Slot(np.array([0]), np.arange(2), None, 1, np.ones(1)))
    with pytest.raises(InvalidInputError, match=f"slot.bits_T is None; .*{spec}"):
        policy.route([[0.5, 0.5]], Cost([[0, 0]]), Slot(np.array([0]), np.arange(2), links))


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ("jesa:1.5:2", "importance is 1.5"),
        ("jesa:0.5:0", "max_experts is 0"),
        ("jesa:0.5:2:-1", "z is -1.0"),
        ("homogeneous:2:2", "z is 2.0"),
        ("homogeneous:0.5:0", "max_experts is 0"),
        ("jesa:nan:2", "importance is nan"),
        ("wlr:2", "theta is 2.0"),
        ("wlr:0.5:0", "compute_s is 0.0"),
        ("cheapest:0", "k is 0"),
    ],
)
def test_a_parameter_out_of_range_is_named(spec: str, named: str) -> None:
    with pytest.raises(InvalidInputError, match=named):
        make_policy(spec)


class RadioCarrier:
    """Expert e answers its number; transfers cost what an ideal radio charges."""

    def __init__(self, links: Links) -> None:
        self.links: Links | None = links
        self._price = IdealPrice(links)

    def payload_bits(self, payload_T: np.ndarray) -> int:
        return int(BITS)

    def price(self, payload_T: np.ndarray, slot: Slot, subcarrier_NN: np.ndarray | None = None) -> Price:
        return self._price(slot, subcarrier_NN)

    def can_ask(self, slot: Slot) -> np.ndarray:
        return np.ones(slot.placement.node_ER.shape, np.bool_)

    def carry(self, transfer: Transfer[np.ndarray]) -> Delivery[np.ndarray]:
        sent = transfer.of_pairs(self._price.arrives_P(transfer))
        return Delivery(sent.item_P, sent.expert_P, sent.expert_P.astype(float))


def send(lost: frozenset[int] = frozenset()) -> tuple[Dispatched[np.ndarray], np.ndarray, Slot]:
    scores_TE, slot = slot_of()
    assert slot.links is not None
    sent = Slot(slot.source_T, slot.placement, slot.links)
    carrier = LossyCarrier(RadioCarrier(slot.links), lost=lost)
    done = dispatch(np.zeros((ITEMS, 1)), scores_TE, Jesa(0.5, 2), carrier, sent)
    return done, scores_TE, slot


def test_what_a_joint_policy_decides_is_charged_over_its_own_subcarriers() -> None:
    done, scores_TE, slot = send()
    routing = Jesa(0.5, 2).route(scores_TE, Cost(np.ones_like(scores_TE)), slot)
    np.testing.assert_array_equal(done.requested_TE, routing.mask_TE)
    np.testing.assert_allclose(done.energy_j_T, routing.energy_j_T)
    assert done.decided_by == "jesa:0.5:2"


def test_a_lost_expert_is_routed_around_by_the_fallback_over_the_subcarriers_allocated() -> None:
    done, scores_TE, slot = send(lost=frozenset({0}))
    assert slot.links is not None
    routing = Jesa(0.5, 2).route(scores_TE, Cost(np.ones_like(scores_TE)), slot)
    lost_T = routing.mask_TE[:, 0] & (slot.source_T != 0)
    assert lost_T.any()
    np.testing.assert_array_equal(done.rerouted_T, lost_T)
    assert routing.subcarrier_NN is not None
    price_TE = IdealPrice(slot.links)(slot, routing.subcarrier_NN).charged.energy_j_TE
    np.testing.assert_allclose(done.energy_j_T, np.where(done.requested_TE, price_TE, 0).sum(axis=1))


def test_what_is_decided_on_observed_links_is_paid_and_lost_where_its_subcarrier_carries_less() -> None:
    scores_TE, slot = slot_of()
    assert slot.links is not None
    seen = RayleighFading(NODES, RADIO, seed=9).at(0)
    links = slot.links.with_observed(seen)
    sent = Slot(slot.source_T, slot.placement, links.observed)
    done = dispatch(np.zeros((ITEMS, 1)), scores_TE, Jesa(0.5, 2), RadioCarrier(links), sent)
    routing = Jesa(0.5, 2).route(
        scores_TE, Cost(np.ones_like(scores_TE)), Slot(slot.source_T, slot.placement, seen, 1, slot.bits_T)
    )
    assert (done.requested_TE >= routing.mask_TE).all()
    assert routing.subcarrier_NN is not None
    price_NN, true_NN = (each.energy_per_bit_j(routing.subcarrier_NN) for each in (seen, slot.links))
    paid_T = np.where(done.requested_TE, BITS * price_NN[slot.source_T], 0.0).sum(axis=1)
    np.testing.assert_allclose(done.energy_j_T, paid_T)
    carries_TE = price_NN[slot.source_T] >= true_NN[slot.source_T]  # rates compare as joules, the other way
    own_TE = slot.at_home_TE & ~done.requested_TE  # the last resort of an item that lost all
    np.testing.assert_array_equal(done.arrived_TE & ~own_TE, done.requested_TE & carries_TE & ~own_TE)
    assert (done.requested_TE & ~carries_TE).any()
    assert (done.requested_TE & carries_TE & ~slot.at_home_TE).any()


def test_a_joint_policy_reaches_over_links_that_have_no_standing_subcarrier() -> None:
    radio = Ofdma(subcarriers=4)
    links = RayleighFading(3, radio).at(0)
    scores_TE, slot = np.array([[0.0, 0.5, 0.5]]), Slot(np.array([0]), np.arange(3), links)
    done = dispatch(np.zeros((1, 1)), scores_TE, Jesa(1.0, 2), RadioCarrier(links), slot, None)
    assert done.arrived_TE.tolist() == [[False, True, True]]
    standing = [
        np.isfinite(
            IdealPrice(links)(Slot(np.array([i]), np.arange(3), bits_T=np.ones(1))).charged.energy_j_TE
        ).all()
        for i in range(3)
    ]
    assert not all(standing)  # six links, four subcarriers


class Unscheduled(Jesa):
    """JESA whose scheduler is lost."""

    def route(self, *_: object) -> Routing:
        raise NotScheduledError("no scheduler is alive")


def test_where_no_scheduler_decides_the_fallback_does_over_the_standing_subcarriers() -> None:
    scores_TE, slot = slot_of()
    assert slot.links is not None
    sent = Slot(slot.source_T, slot.placement, slot.links)
    lost, alone = (
        dispatch(np.zeros((ITEMS, 1)), scores_TE, policy, RadioCarrier(slot.links), sent, None)
        for policy in (Unscheduled(0.5, 2), Des(0.5, 2))
    )
    assert lost.decided_by == "des:0.5:2"
    np.testing.assert_array_equal(lost.requested_TE, alone.requested_TE)
    np.testing.assert_array_equal(lost.energy_j_T, alone.energy_j_T)


class Endless(Jesa):
    """A joint policy whose fallback is joint, too."""

    @property
    def fallback(self) -> Any:
        return self


def test_a_joint_policy_without_a_sound_fallback_is_refused() -> None:
    _, slot = slot_of()
    assert slot.links is not None
    with pytest.raises(InvalidInputError, match=r"policy is 'jesa:0.5:2'; expected a joint policy with a"):
        dispatch(
            np.zeros((ITEMS, 1)), np.ones((ITEMS, NODES)), Endless(), RadioCarrier(slot.links), slot, None
        )


def test_jesa_charges_computing_and_the_way_back_as_the_schedule_does() -> None:
    scores_TE, slot = slot_of()
    assert slot.links is not None
    radio = Ofdma(subcarriers=24, charge_return=True)
    links = Links.from_gain(slot.links.gain_NNM, radio)
    compute_j_E = np.linspace(1e-5, 4e-5, NODES)
    sent = Slot(slot.source_T, Placement(np.arange(NODES), compute_j_E), links)
    done = dispatch(np.zeros((ITEMS, 1)), scores_TE, Jesa(0.5, 2), RadioCarrier(links), sent)
    plan = schedule_layer(
        scores_TE, slot.source_T, links.gain_NNM, radio,
        threshold=0.5, token_bits=BITS, compute_j_per_token=compute_j_E,
    )  # fmt: skip
    np.testing.assert_array_equal(done.requested_TE, plan.selection.mask)
    assert done.energy_j_T.sum() == pytest.approx(plan.energy_j, rel=1e-12)
    assert (
        plan.energy_j
        > schedule_layer(
            scores_TE, slot.source_T, links.gain_NNM, RADIO, threshold=0.5, token_bits=BITS
        ).energy_j
    )
