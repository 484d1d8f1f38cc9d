"""The seam between deciding and transporting: what a carrier is asked to do, and what it answers.

Shape suffixes: T items, E experts, R replicas, N nodes, P (item, expert) pairs sorted by expert.
"""

from dataclasses import dataclass, replace
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from airmoe.errors import InvalidInputError
from airmoe.links import Links
from airmoe.scheduling.cost import Cost
from airmoe.scheduling.policy import Slot
from airmoe.showing import OneLine

Payload_co = TypeVar("Payload_co", covariant=True)
Payload_contra = TypeVar("Payload_contra", contravariant=True)
Output_co = TypeVar("Output_co", covariant=True)


class Price(NamedTuple):
    """What it takes to have each item served by each expert.

    ``quoted`` comes from the links as observed, and policies decide on it; ``charged`` is what a transfer
    costs, whether it arrives or not.
    """

    quoted: Cost
    charged: Cost


@dataclass(frozen=True, eq=False, repr=False)
class Transfer(OneLine, Generic[Payload_co]):
    """One round of transfers: every pair's payload to its expert, and the output back.

    Attributes:
        payload_T: the payloads of all items, first axis T, any array type.
        item_P: int64, the item of each pair.
        expert_P: int64, its expert, ascending.
        node_P: int64, the node that is to serve it.
        slot: where items rest and experts live, and the links.
        experts: what the carrier needs to reach the experts: modules by number, or nothing over a network.
        deadline_s: seconds that it may take.
        subcarrier_NN: int64, the subcarriers that a joint policy decided on; None for the carrier's own
            allocation.
    """

    payload_T: Payload_co
    item_P: NDArray[np.int64]
    expert_P: NDArray[np.int64]
    node_P: NDArray[np.int64]
    slot: Slot
    experts: Any
    deadline_s: float
    subcarrier_NN: NDArray[np.int64] | None = None

    def of_pairs(self, kept_P: NDArray[np.bool_]) -> "Transfer[Payload_co]":
        """Return the same round with these pairs only."""
        pairs = {name: getattr(self, name)[kept_P] for name in ("item_P", "expert_P", "node_P")}
        return replace(self, **pairs)

    @property
    def at_home_P(self) -> NDArray[np.bool_]:
        """True where the item rests at the node that serves it: nothing travels."""
        return np.asarray(self.slot.source_T[self.item_P] == self.node_P)


@dataclass(frozen=True, eq=False, repr=False)
class Delivery(OneLine, Generic[Output_co]):
    """The outputs that came back from this round of transfers, or late from one before.

    What did not arrive is not listed.

    Attributes:
        item_P: int64, the item of each pair that arrived.
        expert_P: int64, its expert, ascending.
        output_P: the experts' outputs, first axis P, any array type.
        pending: whether more of what was asked for may still come. A carrier that says so takes a transfer
            without pairs, and returns what came late.
    """

    item_P: NDArray[np.int64]
    expert_P: NDArray[np.int64]
    output_P: Output_co
    pending: bool = False


def refuse_unasked(delivery: Delivery[Any], wanted_TE: NDArray[np.bool_]) -> None:
    """Refuse a delivery of pairs that were not wanted, or that holds a pair twice.

    Raises:
        InvalidInputError: the first such pair is named.
    """
    items, experts = wanted_TE.shape
    item_P, expert_P = delivery.item_P, delivery.expert_P
    inside_P = (item_P >= 0) & (item_P < items) & (expert_P >= 0) & (expert_P < experts)
    if inside_P.all():
        came_TE = np.zeros_like(wanted_TE)
        came_TE[item_P, expert_P] = True
        if np.count_nonzero(came_TE & wanted_TE) == len(item_P):
            return
    seen: set[tuple[int, int]] = set()
    for pair, inside in zip(zip(item_P.tolist(), expert_P.tolist(), strict=True), inside_P, strict=True):
        if not inside or not wanted_TE[pair] or pair in seen:
            raise InvalidInputError("delivered (item, expert)", pair, "a pair that was asked for, once")
        seen.add(pair)


class Carrier(Protocol[Payload_contra, Output_co]):
    """Brings payloads to experts and their outputs back, and prices a transfer in joules and seconds."""

    @property
    def links(self) -> Links | None:
        """The links that it carries over, if it has any; gates and policies see them as observed."""
        ...

    def payload_bits(self, payload_T: Payload_contra) -> int:
        """Return the bits of one item's payload and its side information; every item has as many."""
        ...

    def price(
        self, payload_T: Payload_contra, slot: Slot, subcarrier_NN: NDArray[np.int64] | None = None
    ) -> Price:
        """Return what it takes to have each item served by each expert at `slot.node_TE`, alive or not.

        ``subcarrier_NN`` is what a joint policy decided on; left out, the carrier's own allocation stands.
        """
        ...

    def can_ask(self, slot: Slot) -> NDArray[np.bool_]:
        """Return (E, R), True for the replicas of `slot.placement` that can be asked now."""
        ...

    def carry(self, transfer: Transfer[Payload_contra]) -> Delivery[Output_co]:
        """Have the experts serve the pairs within the deadline; return those that arrived."""
        ...
