"""Which replica of each expert would serve each item: the cheapest that can be asked, the item's own first.

Shape suffixes: T items, E experts, R replicas, N nodes.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from airmoe.dispatch.carrier import Carrier, Price
from airmoe.errors import InvalidInputError, telling
from airmoe.scheduling.cost import unchecked
from airmoe.scheduling.policy import Slot

Flags = NDArray[np.bool_]


MOST_KEPT = 64
"""How many choices a slot keeps: one for each set of replicas that could be asked."""


class Replicas:
    """The nodes of every expert, and what each of them would cost.

    Args:
        payload_T: the payloads of all items.
        carrier: prices them.
        slot: the items; its placement says which nodes there are.
        subcarrier_NN: what a joint policy decided on; None for the carrier's own allocation.
    """

    def __init__(
        self,
        payload_T: Any,
        carrier: Carrier[Any, Any],
        slot: Slot,
        subcarrier_NN: NDArray[np.int64] | None = None,
    ) -> None:
        self._slots = slot.of_replicas
        self._slot = slot
        self._prices = [priced(payload_T, carrier, each, subcarrier_NN) for each in self._slots]

    def cheapest(self, usable_ER: Flags, lost_RTE: Flags | None = None) -> tuple[Slot, Price]:
        """Return the slot with the node chosen for each pair, and its price, quoted inf where none is usable.

        The best link as observed decides between equally cheap nodes.

        Args:
            usable_ER: the replicas that can be asked; an item's own node always can.
            lost_RTE: the replicas that an item asked in vain.
        """
        if len(self._slots) == 1 and lost_RTE is None and usable_ER.all():
            return self._slots[0], self._prices[0]
        if lost_RTE is not None:
            return self._chosen(usable_ER, lost_RTE)
        kept, usable = self._slot.kept, usable_ER.tobytes()
        prices, chosen = kept.get(usable, (None, None))
        if prices is None or any(
            ours is not theirs for ours, theirs in zip(self._prices, prices, strict=True)
        ):
            if len(kept) >= MOST_KEPT:
                kept.clear()
            chosen = self._chosen(usable_ER, None)
            kept[usable] = self._prices, chosen
        assert chosen is not None
        return chosen  # type: ignore[no-any-return]

    def _chosen(self, usable_ER: Flags, lost_RTE: Flags | None) -> tuple[Slot, Price]:
        home_RTE = np.stack([each.at_home_TE for each in self._slots])
        usable_RTE = usable_ER.T[:, np.newaxis] | home_RTE
        if lost_RTE is not None:
            usable_RTE &= ~lost_RTE
        if len(self._slots) == 1:
            (slot,), (price,) = self._slots, self._prices
            return slot, Price(price.quoted.where(usable_RTE[0]), price.charged)
        key_RTE = np.where(usable_RTE, [price.quoted.energy_j_TE for price in self._prices], np.inf)
        key_RTE[home_RTE & usable_RTE] = -1.0
        chosen_TE = self._best_link(key_RTE == key_RTE.min(axis=0))[np.newaxis]

        def taken(arrays: list[NDArray[Any]]) -> NDArray[Any]:
            return np.asarray(np.take_along_axis(np.stack(arrays), chosen_TE, axis=0)[0])

        quoted, charged = (
            unchecked(
                taken([side.energy_j_TE for side in sides]), taken([side.airtime_s_TE for side in sides])
            )
            for sides in zip(*self._prices, strict=True)
        )
        slot = self._slots[0].served_by(taken([each.node_TE for each in self._slots]))
        return slot, Price(quoted.where(taken(list(usable_RTE))), charged)

    def _best_link(self, candidate_RTE: Flags) -> NDArray[np.int64]:
        """Return the number of the candidate with the best observed SNR, the first where none is known."""
        snr_db = [each.observed_snr_db_TE for each in self._slots]
        if any(each is None for each in snr_db):
            return np.asarray(candidate_RTE.argmax(axis=0))
        worth_RTE = np.where(candidate_RTE, np.maximum(np.stack(snr_db), -1e300), -np.inf)  # type: ignore[arg-type]
        return np.asarray(worth_RTE.argmax(axis=0))


def nearest(payload_T: Any, carrier: Carrier[Any, Any], slot: Slot) -> Slot:
    """Return the slot in which each item would be served at each expert's cheapest node that can be asked.

    A gate should see the SNR to these nodes. Where none of an expert's nodes can be asked, the cheapest of
    them is taken.
    """
    if slot.placement.replicas == 1:
        return slot
    slot = slot.with_bits(carrier.payload_bits(payload_T))
    replicas, usable_ER = Replicas(payload_T, carrier, slot), askable(carrier, slot)
    gone_E1 = ~usable_ER.any(axis=1, keepdims=True)
    chosen, _ = replicas.cheapest(usable_ER | gone_E1 & slot.placement.exists_ER)
    return chosen


def askable(carrier: Carrier[Any, Any], slot: Slot) -> Flags:
    """Return (E, R), True for the replicas that there are and that can be asked.

    Raises:
        InvalidInputError: the carrier answers for another number of experts or replicas.
    """
    exists_ER = slot.placement.exists_ER
    with telling(f"carrier {type(carrier).__name__}, (E, R) = {exists_ER.shape}"):
        can_ask_ER = carrier.can_ask(slot)
        if np.shape(can_ask_ER) != exists_ER.shape:
            raise InvalidInputError("shape of can_ask", np.shape(can_ask_ER), f"(E, R) = {exists_ER.shape}")
    return np.asarray(exists_ER & can_ask_ER)


def priced(
    payload_T: Any, carrier: Carrier[Any, Any], slot: Slot, subcarrier_NN: NDArray[np.int64] | None
) -> Price:
    """Return a carrier's price for the nodes of a slot, and what the experts spend on computing.

    Raises:
        InvalidInputError: the price has another shape.
    """
    with telling(f"carrier {type(carrier).__name__}, (T, E) = {slot.node_TE.shape}"):
        price = carrier.price(payload_T, slot, subcarrier_NN)
        for name, cost in (("quoted", price.quoted), ("charged", price.charged)):
            if cost.energy_j_TE.shape != slot.node_TE.shape:
                shape = cost.energy_j_TE.shape
                raise InvalidInputError(f"shape of {name} cost", shape, f"(T, E) = {slot.node_TE.shape}")
    compute_j_E = slot.placement.compute_j_E
    return Price(*(cost.plus_energy(compute_j_E) for cost in price)) if compute_j_E.any() else price
