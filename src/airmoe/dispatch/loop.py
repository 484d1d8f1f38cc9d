"""Route a batch, carry it, and route again around whatever was lost: the loop that simulation and mesh share.

Shape suffixes: T items, E experts, P (item, expert) pairs sorted by expert.
"""

import time
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from airmoe.dispatch.cost import Price
from airmoe.errors import NoExpertReachedError, NotScheduledError
from airmoe.links import Links
from airmoe.scheduling.policy import JointPolicy, Policy, Routing, Slot, as_joint

Payload_contra = TypeVar("Payload_contra", contravariant=True)
Output_co = TypeVar("Output_co", covariant=True)


@dataclass(frozen=True)
class Delivery(Generic[Output_co]):
    """The outputs that came back from one round of transfers; what did not arrive is not listed.

    Attributes:
        item_P: int64, the item of each pair that arrived.
        expert_P: int64, its expert, ascending.
        output_P: the experts' outputs, first axis P, any array type.
    """

    item_P: NDArray[np.int64]
    expert_P: NDArray[np.int64]
    output_P: Output_co


class Carrier(Protocol[Payload_contra, Output_co]):
    """Brings payloads to experts and their outputs back, and prices a transfer in joules."""

    @property
    def links(self) -> Links | None:
        """The links that it carries over, if it has any; gates and policies see them as observed."""
        ...

    def payload_bits(self, payload_T: Payload_contra) -> int:
        """Return the bits that one item is charged on its way; every item of a batch has as many."""
        ...

    def price_j(self, slot: Slot, subcarrier_NN: NDArray[np.int64] | None = None) -> Price:
        """Return the price in joules of having each item served by each expert, bits as the slot has them.

        ``subcarrier_NN`` is what a joint policy decided on; left out, the carrier's own allocation stands.
        """
        ...

    def carry(
        self,
        payload_T: Payload_contra,
        item_P: NDArray[np.int64],
        expert_P: NDArray[np.int64],
        slot: Slot,
        experts: Any,
        deadline_s: float,
    ) -> Delivery[Output_co]:
        """Have ``experts`` serve the pairs within ``deadline_s`` seconds; return those that arrived."""
        ...


@dataclass(frozen=True)
class Dispatched(Generic[Output_co]):
    """What became of a batch.

    Attributes:
        deliveries: the outputs, one entry per round of transfers.
        arrived_TE: bool, the pairs whose output arrived.
        requested_TE: bool, the pairs that were asked for, lost ones included.
        energy_j_T: float64, joules spent on each item, lost transfers included.
        rerouted_T: bool, items routed again because an expert was lost.
        degraded_T: bool, items that the source's own expert answered as the last resort: the policy would
            have asked others, but none of them could be reached in time.
        decided_by: name of the policy that decided first.
    """

    deliveries: list[Delivery[Output_co]]
    arrived_TE: NDArray[np.bool_]
    requested_TE: NDArray[np.bool_]
    energy_j_T: NDArray[np.float64]
    rerouted_T: NDArray[np.bool_]
    degraded_T: NDArray[np.bool_]
    decided_by: str


def dispatch(
    payload_T: Payload_contra,
    scores_TE: NDArray[np.float64],
    policy: Policy,
    carrier: Carrier[Payload_contra, Output_co],
    slot: Slot,
    experts: Any,
    *,
    deadline_s: float = 2.0,
) -> Dispatched[Output_co]:
    """Route a batch, carry it, and while time is left route items again without the experts that were lost.

    One attempt may take half of the time that is left, so that a frozen node leaves time for another. An item
    for which nothing arrived is answered by its source's own expert and marked degraded. What a joint policy
    decided is routed again by its fallback, at the source and over the subcarriers that were allocated.

    Args:
        payload_T: what the experts get, first axis T, any array type the carrier takes.
        scores_TE: float64, gate scores >= 0.
        policy: decides who serves what.
        carrier: transfers and prices.
        slot: where items rest and experts live, and the observed links.
        experts: what the carrier needs to reach the experts (modules, or nothing for a mesh).
        deadline_s: seconds for everything.

    Raises:
        InvalidInputError: a joint policy without a fallback.
        NoExpertReachedError: an item got no answer and its source holds no expert.
    """
    end = time.monotonic() + deadline_s
    slot = replace(slot, bits_T=np.full(len(scores_TE), float(carrier.payload_bits(payload_T))))
    price, decided_by, routing = carrier.price_j(slot), policy.name, None
    joint = as_joint(policy)
    alone = policy if joint is None else joint.fallback  # decides from here on, at each source
    if joint is not None:
        try:
            routing = _route_jointly(scores_TE, joint, carrier, slot)
            price = carrier.price_j(slot, routing.subcarrier_NN)
        except NotScheduledError:
            decided_by = alone.name
    quoted_j_TE, charged_j_TE = price.quoted_j_TE.copy(), price.charged_j_TE
    arrived_TE = np.zeros(scores_TE.shape, dtype=np.bool_)
    requested_TE = np.zeros_like(arrived_TE)
    energy_j_T = np.zeros(len(scores_TE))
    rerouted_T = np.zeros(len(scores_TE), dtype=np.bool_)
    deliveries: list[Delivery[Output_co]] = []

    def carry(wanted_TE: NDArray[np.bool_], limit_s: float) -> None:
        expert_P, item_P = np.nonzero(wanted_TE.T)
        delivery = carrier.carry(payload_T, item_P, expert_P, slot, experts, limit_s)
        requested_TE[item_P, expert_P] = True
        arrived_TE[delivery.item_P, delivery.expert_P] = True
        deliveries.append(delivery)

    open_T = np.arange(len(scores_TE))
    while open_T.size and time.monotonic() < end:
        if routing is None:
            routing = alone.route(scores_TE[open_T], quoted_j_TE[open_T], slot.of_items(open_T))
        wanted_TE = np.zeros_like(arrived_TE)
        wanted_TE[open_T], routing = routing.mask_TE, None
        wanted_TE &= ~arrived_TE & np.isfinite(quoted_j_TE)
        if not wanted_TE.any():
            break
        energy_j_T += np.where(wanted_TE, charged_j_TE, 0.0).sum(axis=1)
        rerouted_T |= requested_TE.any(axis=1) & wanted_TE.any(axis=1)
        carry(wanted_TE, max(end - time.monotonic(), 0.0) / 2)  # deciding took time, too
        lost_TE = wanted_TE & ~arrived_TE
        quoted_j_TE[:, lost_TE.any(axis=0)] = np.inf
        quoted_j_TE[arrived_TE] = 0.0  # what has arrived costs nothing more
        open_T = np.flatnonzero(lost_TE.any(axis=1))

    own_TE = slot.placement_E == slot.source_T[:, None]
    degraded_T = ~np.any(arrived_TE, axis=1)
    if (last_resort_TE := own_TE & degraded_T[:, None]).any():
        carry(last_resort_TE, max(end - time.monotonic(), 0.0))
    cut_off_T = np.flatnonzero(~np.any(np.isfinite(quoted_j_TE) & ~own_TE, axis=1))
    if cut_off_T.size:  # what the policy chose from the own expert alone; what would it have chosen from all?
        intended = alone.route(scores_TE[cut_off_T], charged_j_TE[cut_off_T], slot.of_items(cut_off_T))
        degraded_T[cut_off_T] |= np.any(intended.mask_TE & ~own_TE[cut_off_T], axis=1)
    _refuse_unanswered(arrived_TE, slot, deadline_s)
    return Dispatched(deliveries, arrived_TE, requested_TE, energy_j_T, rerouted_T, degraded_T, decided_by)


def _route_jointly(
    scores_TE: NDArray[np.float64], policy: JointPolicy, carrier: Carrier[Any, Any], slot: Slot
) -> Routing:
    """Have a joint policy decide. It may give a link any subcarrier, so the best say what can be reached."""
    best_NN = None if slot.links is None else slot.links.best_subcarrier_NN
    return policy.route(scores_TE, carrier.price_j(slot, best_NN).quoted_j_TE, slot)


def _refuse_unanswered(arrived_TE: NDArray[np.bool_], slot: Slot, deadline_s: float) -> None:
    unanswered_T = np.flatnonzero(~np.any(arrived_TE, axis=1))
    if unanswered_T.size:
        raise NoExpertReachedError(
            f"item {unanswered_T[0]} at node {slot.source_T[unanswered_T[0]]}: no expert answered within "
            f"{deadline_s} s, and the node holds no expert of its own"
        )
