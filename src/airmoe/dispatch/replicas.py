"""Which replica of each expert would serve each item: the cheapest that can be asked, the item's own first.

Shape suffixes: T items, E experts, R replicas, N nodes.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from airmoe.dispatch.carrier import Carrier, Price
from airmoe.scheduling.cost import unchecked
from airmoe.scheduling.policy import Slot

Flags = NDArray[np.bool_]


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
        placement, shape_TE = slot.placement, slot.node_TE.shape
        self._slots = [slot]
        for number in range(1, placement.replicas):
            node_E = np.where(placement.exists_ER[:, number], placement.node_ER[:, number], placement.first_E)
            self._slots.append(slot.served_by(np.broadcast_to(node_E, shape_TE)))
        self._prices = [carrier.price(payload_T, each, subcarrier_NN) for each in self._slots]

    def cheapest(self, usable_ER: Flags) -> tuple[Slot, Price]:
        """Return the slot with the node chosen for each pair, and the price; quoted inf where none is usable.

        An item's own node is always usable: nothing is transferred there.
        """
        if len(self._slots) == 1:
            (slot,), (price,) = self._slots, self._prices
            if not usable_ER.all():
                price = Price(price.quoted.where(slot.at_home_TE | usable_ER[:, 0]), price.charged)
            return slot, price
        usable_RTE = np.stack(
            [each.at_home_TE | usable_E for each, usable_E in zip(self._slots, usable_ER.T, strict=True)]
        )
        key_RTE = np.stack([price.quoted.energy_j_TE for price in self._prices])
        key_RTE = np.where(usable_RTE, key_RTE, np.inf)
        key_RTE[np.stack([each.at_home_TE for each in self._slots])] = -1.0
        chosen_TE = key_RTE.argmin(axis=0)[np.newaxis]

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
