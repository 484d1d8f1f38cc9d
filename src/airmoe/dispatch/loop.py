"""Route a batch, carry it, and route again around whatever was lost: the loop that simulation and mesh share.

Shape suffixes: T items, E experts, R replicas, N nodes, P (item, expert) pairs sorted by expert.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple

import numpy as np
from numpy.typing import NDArray

from airmoe.checks import read_only
from airmoe.dispatch.carrier import (
    Carrier,
    Delivery,
    Output_co,
    Payload_contra,
    Price,
    Transfer,
    refuse_unasked,
)
from airmoe.dispatch.replicas import Replicas, askable, priced
from airmoe.errors import InvalidInputError, NoExpertReachedError, NotScheduledError, telling
from airmoe.scheduling.cost import Cost
from airmoe.scheduling.parsing import as_policy
from airmoe.scheduling.policy import JointPolicy, Policy, Slot, as_joint
from airmoe.showing import OneLine

Flags = NDArray[np.bool_]
NOBODY = -1


@dataclass(frozen=True, repr=False)
class Dispatched(OneLine, Generic[Output_co]):
    """What became of a batch.

    Attributes:
        deliveries: the outputs, one entry per round of transfers.
        arrived_TE: bool, the pairs whose output arrived.
        requested_TE: bool, the pairs that were asked for, lost ones included.
        node_TE: int64, the node that was asked last for each pair; -1 where none was.
        intended_TE: bool, the pairs that would have been asked for with every expert alive.
        reached_T: float64, from 0 to 1, see `reached_share`.
        degraded_T: bool, see `degraded`.
        rerouted_T: bool, items routed again because an expert was lost on the way.
        energy_j_T: float64, joules spent on each item, lost transfers included.
        airtime_s_T: float64, seconds on the air spent on each item, lost transfers included.
        decided_by: name of the policy that decided first.
        bits: of each item's payload.
        sent: payloads that went to another node, each time anew, lost ones included.
        missed_nodes: nodes that were asked and did not answer in time.
        subcarrier_NN: int64, the subcarriers that a joint policy decided on; None for the carrier's own
            allocation.
    """

    deliveries: list[Delivery[Output_co]]
    arrived_TE: Flags
    requested_TE: Flags
    node_TE: NDArray[np.int64]
    intended_TE: Flags
    reached_T: NDArray[np.float64]
    degraded_T: Flags
    rerouted_T: Flags
    energy_j_T: NDArray[np.float64]
    airtime_s_T: NDArray[np.float64]
    decided_by: str
    bits: float
    sent: int
    missed_nodes: frozenset[int]
    subcarrier_NN: NDArray[np.int64] | None

    def __repr__(self) -> str:
        """Return the figures of the batch in one line."""
        items, experts = self.requested_TE.shape
        asked, arrived = np.count_nonzero(self.requested_TE), np.count_nonzero(self.arrived_TE)
        return (
            f"Dispatched({items} items, {experts} experts, decided by {self.decided_by}: "
            f"{asked} pairs asked, {arrived} arrived, {np.count_nonzero(self.degraded_T)} items degraded, "
            f"{self.energy_j_T.sum():.3g} J)"
        )

    @property
    def chose_none_T(self) -> Flags:
        """True where the policy chose no expert: those at the item's source answered as a last resort."""
        return np.asarray(~self.intended_TE.any(axis=1))


def degraded(intended_TE: Flags, arrived_TE: Flags) -> Flags:
    """Return (T,): True where an expert that would be asked with every expert alive did not answer."""
    return np.asarray(np.any(intended_TE & ~arrived_TE, axis=1))


def reached_share(
    scores_TE: NDArray[np.float64], intended_TE: Flags, arrived_TE: Flags
) -> NDArray[np.float64]:
    """Return (T,): the score of the intended experts that answered, as a share of all intended experts'.

    Where these scores are all zero, it is 1 if all of them answered, else 0.
    """
    whole_T = ~degraded(intended_TE, arrived_TE)
    if whole_T.all():
        return np.ones(len(whole_T))
    intended_T = np.where(intended_TE, scores_TE, 0.0).sum(axis=1)
    arrived_T = np.where(intended_TE & arrived_TE, scores_TE, 0.0).sum(axis=1)
    share_T = np.divide(arrived_T, intended_T, out=np.zeros_like(arrived_T), where=intended_T > 0)
    return np.where(whole_T, 1.0, share_T)


def dispatch(
    payload_T: Payload_contra,
    scores_TE: NDArray[np.float64],
    policy: Policy | str,
    carrier: Carrier[Payload_contra, Output_co],
    slot: Slot,
    experts: Any = None,
    *,
    deadline_s: float = 2.0,
    clock: Callable[[], float] = time.monotonic,
) -> Dispatched[Output_co]:
    """Route a batch, carry it, and while time is left route items again without the experts that were lost.

    Each expert is asked at its cheapest node that can be asked, and after a loss at its other nodes. One
    attempt may take half of the time that is left, so that a frozen node leaves time for another. What comes
    late, while another expert is asked, counts; if it makes an item whole, the other's answer does not. An
    item for which nothing arrived is answered by the experts at its source. A joint policy decides once; then
    its fallback routes again, at the source and over the subcarriers that were allocated.

    Args:
        payload_T: what the experts get, first axis T, any array type the carrier takes.
        scores_TE: float64, gate scores >= 0.
        policy: decides who serves what; a policy, or its text, e.g. "topk:1".
        carrier: transfers and prices.
        slot: where items rest and experts live, and the observed links.
        experts: what the carrier needs to reach the experts (modules, or nothing for a mesh).
        deadline_s: seconds for everything.
        clock: seconds of a clock that never goes back.

    Raises:
        InvalidInputError: a joint policy without a fallback, a NaN deadline, or a policy or carrier that
            answers with another shape or with pairs that were not asked for.
        NoExpertReachedError: an item got no answer and its source holds no expert.
    """
    if math.isnan(deadline_s):
        raise InvalidInputError("deadline_s", deadline_s, "a number of seconds")
    end_s = clock() + deadline_s
    policy = as_policy(policy)
    joint = as_joint(policy)
    bits = carrier.payload_bits(payload_T)
    slot = slot.with_bits(bits)
    batch = _Batch(payload_T, scores_TE, policy if joint is None else joint.fallback, carrier, slot, experts)
    decided_by = policy.name
    try:
        decision = batch.decide() if joint is None else batch.decide_jointly(joint)
    except NotScheduledError:
        decided_by = batch.policy.name
        decision = batch.decide()
    open_T = np.arange(len(scores_TE))
    while open_T.size and clock() < end_s:
        wanted_TE = decision.mask_TE & ~batch.arrived_TE & decision.price.quoted.reachable_TE
        if not wanted_TE.any():
            break
        batch.pay(wanted_TE, decision.price.charged)
        batch.carry(wanted_TE, decision.slot, (end_s - clock()) / 2)  # deciding took time, too
        lost_TE = wanted_TE & ~batch.arrived_TE
        open_T = np.flatnonzero(lost_TE.any(axis=1))
        if open_T.size:
            batch.lose(lost_TE, decision.slot)
            decision = batch.decide_again(open_T)
    if not batch.answered_T.all():
        if (last_resort_TE := batch.own_TE & ~batch.answered_T[:, np.newaxis]).any():
            at_home = slot.served_by(np.broadcast_to(slot.source_T[:, np.newaxis], scores_TE.shape))
            batch.energy_j_T += np.where(last_resort_TE, slot.placement.compute_j_E, 0.0).sum(axis=1)
            batch.carry(last_resort_TE, at_home, max(end_s - clock(), 0.0))
        while batch.pending and not batch.answered_T.all() and clock() < end_s:
            batch.carry(np.zeros_like(batch.arrived_TE), slot, end_s - clock())
        _refuse_unanswered(batch.arrived_TE, slot, deadline_s)
    degraded_T = degraded(batch.intended_TE, batch.arrived_TE)
    if batch.rounds > 1:
        batch.leave_out_stand_ins(degraded_T)
    return Dispatched(
        batch.deliveries,
        batch.arrived_TE,
        batch.requested_TE,
        batch.node_TE,
        batch.intended_TE,
        reached_share(scores_TE, batch.intended_TE, batch.arrived_TE),
        degraded_T,
        batch.rerouted_T,
        batch.energy_j_T,
        batch.airtime_s_T,
        decided_by,
        bits,
        batch.sent,
        frozenset(batch.missed_nodes),
        batch.subcarrier_NN,
    )


class _Routed(NamedTuple):
    """What a policy chose."""

    mask_TE: Flags
    subcarrier_NN: NDArray[np.int64] | None


class _Decision(NamedTuple):
    """Who is to serve what, at which nodes, and what that costs."""

    mask_TE: Flags
    slot: Slot
    price: Price


class _Batch(Generic[Payload_contra, Output_co]):
    """A batch on its way: what was decided, asked for, paid and lost, and what has arrived."""

    def __init__(
        self,
        payload_T: Payload_contra,
        scores_TE: NDArray[np.float64],
        policy: Policy,
        carrier: Carrier[Payload_contra, Output_co],
        slot: Slot,
        experts: Any,
    ) -> None:
        self.policy = policy
        self._payload_T, self._scores_TE, self._experts = payload_T, scores_TE, experts
        self._carrier, self._slot = carrier, slot
        self._exists_ER = slot.placement.exists_ER
        self._usable_ER = askable(carrier, slot)
        self.subcarrier_NN: NDArray[np.int64] | None = None
        self.deliveries: list[Delivery[Output_co]] = []
        self.rounds = self.sent = 0
        self.missed_nodes = set[int]()
        self.pending = False
        self.arrived_TE = np.zeros(scores_TE.shape, dtype=np.bool_)
        self.requested_TE, self.intended_TE = np.zeros_like(self.arrived_TE), np.zeros_like(self.arrived_TE)
        self._lost_RTE: Flags | None = None
        self.node_TE = np.full(scores_TE.shape, NOBODY)
        self.rerouted_T = np.zeros(len(scores_TE), dtype=np.bool_)
        self.energy_j_T, self.airtime_s_T = np.zeros(len(scores_TE)), np.zeros(len(scores_TE))

    @property
    def own_TE(self) -> Flags:
        """The experts that live at each item's own node."""
        source_T11 = self._slot.source_T[:, np.newaxis, np.newaxis]
        return np.asarray(np.any(source_T11 == self._slot.placement.node_ER, axis=2))

    @property
    def answered_T(self) -> Flags:
        """True where at least one expert answered."""
        return np.asarray(np.any(self.arrived_TE, axis=1))

    def leave_out_stand_ins(self, degraded_T: Flags) -> None:
        """Forget what stood in for experts that answered late: the item is whole without it."""
        intended_TE = self.intended_TE | ~self.intended_TE.any(axis=1, keepdims=True)
        self.arrived_TE &= intended_TE | degraded_T[:, np.newaxis]

    def decide(self) -> _Decision:
        """Route every item as if all nodes were alive, and again those that a dead node was to serve."""
        replicas = Replicas(self._payload_T, self._carrier, self._slot)
        slot, price = replicas.cheapest(self._usable_ER)
        if (self._usable_ER == self._exists_ER).all():
            mask_TE = self._route(self.policy, price.quoted, slot).mask_TE
            self.intended_TE = mask_TE
            return _Decision(mask_TE, slot, price)
        full_slot, full_price = replicas.cheapest(self._exists_ER)
        full_TE = self._route(self.policy, full_price.quoted, full_slot).mask_TE
        elsewhere_TE = full_TE & ((slot.node_TE != full_slot.node_TE) | ~price.quoted.reachable_TE)
        mask_TE, again_I = full_TE.copy(), np.flatnonzero(elsewhere_TE.any(axis=1))
        if again_I.size:
            mask_TE[again_I] = self._route(self.policy, price.quoted, slot, again_I).mask_TE
        self._intend(full_TE, mask_TE, price.quoted)
        return _Decision(mask_TE, slot, price)

    def decide_jointly(self, joint: JointPolicy) -> _Decision:
        """Have a joint policy decide; its fallback tells what would have been asked with every expert alive.

        The policy may give a link any subcarrier, so each link's best one tells what can be reached.
        """
        links = self._slot.links
        replicas = Replicas(
            self._payload_T, self._carrier, self._slot, None if links is None else links.best_subcarrier_NN
        )
        slot, price = replicas.cheapest(self._usable_ER)
        routing = self._route(joint, price.quoted, slot)
        full_TE = routing.mask_TE
        if not (self._usable_ER == self._exists_ER).all():
            full_slot, full_price = replicas.cheapest(self._exists_ER)
            full_TE = self._route(self.policy, full_price.quoted, full_slot).mask_TE
        self._intend(full_TE, routing.mask_TE, price.quoted)
        self.subcarrier_NN = routing.subcarrier_NN
        quoted, charged = priced(self._payload_T, self._carrier, slot, routing.subcarrier_NN)
        return _Decision(routing.mask_TE, slot, Price(quoted.where(price.quoted.reachable_TE), charged))

    def decide_again(self, item_I: NDArray[np.int64]) -> _Decision:
        """Route items again without what was lost; what has arrived costs nothing more."""
        replicas = Replicas(self._payload_T, self._carrier, self._slot, self.subcarrier_NN)
        slot, price = replicas.cheapest(self._usable_ER, self._lost_RTE)
        quoted = price.quoted.free_where(self.arrived_TE)
        mask_TE = np.zeros_like(self.arrived_TE)
        mask_TE[item_I] = self._route(self.policy, quoted, slot, item_I).mask_TE
        return _Decision(mask_TE, slot, Price(quoted, price.charged))

    def pay(self, wanted_TE: Flags, charged: Cost) -> None:
        """Charge what is asked for now, and note which items are asked again."""
        self.energy_j_T += np.where(wanted_TE, charged.energy_j_TE, 0.0).sum(axis=1)
        self.airtime_s_T += np.where(wanted_TE, charged.airtime_s_TE, 0.0).sum(axis=1)
        if self.rounds:
            self.rerouted_T |= self.requested_TE.any(axis=1) & wanted_TE.any(axis=1)

    def carry(self, wanted_TE: Flags, slot: Slot, limit_s: float) -> None:
        """Carry what is wanted to the nodes of this slot."""
        expert_P, item_P = wanted_TE.T.nonzero()
        node_P = slot.node_TE[item_P, expert_P]
        transfer = Transfer(
            self._payload_T, item_P, expert_P, node_P, slot, self._experts, limit_s, self.subcarrier_NN
        )
        self.sent += int(np.count_nonzero(node_P != slot.source_T[item_P]))
        self.requested_TE[item_P, expert_P] = True
        self.node_TE[item_P, expert_P] = node_P
        with telling(f"carrier {type(self._carrier).__name__}, (T, E) = {wanted_TE.shape}"):
            delivery = self._carrier.carry(transfer)
            refuse_unasked(delivery, self.requested_TE & ~self.arrived_TE)
        self.rounds += 1
        self.pending = delivery.pending
        self.arrived_TE[delivery.item_P, delivery.expert_P] = True
        if len(delivery.item_P):
            self.deliveries.append(delivery)

    def lose(self, lost_TE: Flags, slot: Slot) -> None:
        """Note who did not answer: an item's own node for this item, any other for all items of its source.

        Another source may still reach the node: what was lost may have been the link.
        """
        source_T, node_ER = self._slot.source_T, self._slot.placement.node_ER
        item_P, expert_P = np.nonzero(lost_TE)
        node_P = slot.node_TE[item_P, expert_P]
        self.missed_nodes |= set(node_P.tolist())
        pair_Q, replica_Q = np.nonzero(node_ER[expert_P] == node_P[:, np.newaxis])
        item_Q, expert_Q = item_P[pair_Q], expert_P[pair_Q]
        if self._lost_RTE is None:
            self._lost_RTE = np.zeros((self._slot.placement.replicas, *lost_TE.shape), np.bool_)
        self._lost_RTE[replica_Q, item_Q, expert_Q] = True
        away_Q = source_T[item_Q] != node_P[pair_Q]
        gone = np.unique(np.stack([replica_Q, source_T[item_Q], expert_Q])[:, away_Q], axis=1)
        for replica, source, expert in gone.T:
            self._lost_RTE[replica, source_T == source, expert] = True

    def _intend(self, full_TE: Flags, mask_TE: Flags, quoted: Cost) -> None:
        """Note what was intended: what is asked, or, where a wanted expert is dead, what would have been."""
        without_T1 = np.any(full_TE & ~quoted.reachable_TE, axis=1, keepdims=True)
        self.intended_TE = np.where(without_T1, full_TE, mask_TE)

    def _route(
        self, policy: Policy, cost: Cost, slot: Slot, item_I: NDArray[np.int64] | None = None
    ) -> _Routed:
        scores_TE = self._scores_TE
        if item_I is not None:
            scores_TE, cost, slot = scores_TE[item_I], cost.of_items(item_I), slot.of_items(item_I)
        with telling(f"policy {policy.name}, (T, E) = {scores_TE.shape}"):
            routing = policy.route(read_only(scores_TE), cost, slot)
            mask = np.asarray(routing.mask_TE)
            if mask.dtype != np.bool_ or mask.shape != scores_TE.shape:
                expected = f"bool, (T, E) = {scores_TE.shape}"
                raise InvalidInputError("mask_TE", f"{mask.dtype}, {mask.shape}", expected)
        return _Routed(mask.copy(), routing.subcarrier_NN)  # the mask may be the policy's own


def _refuse_unanswered(arrived_TE: Flags, slot: Slot, deadline_s: float) -> None:
    unanswered_T = np.flatnonzero(~np.any(arrived_TE, axis=1))
    if unanswered_T.size:
        source = slot.source_T[unanswered_T[0]]
        own = np.any(slot.placement.node_ER == source)
        raise NoExpertReachedError(
            f"item {unanswered_T[0]} at node {source}: no expert answered within {deadline_s:.3g} s, and "
            + ("neither did its own" if own else "the node holds no expert of its own")
        )
