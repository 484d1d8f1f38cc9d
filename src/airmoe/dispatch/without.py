"""A carrier that leaves nodes out, as their owners wish.

Shape suffixes: E experts, R replicas, N nodes.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airmoe.dispatch.carrier import Carrier, Delivery, Price, Transfer
from airmoe.links import Links
from airmoe.scheduling.policy import Slot


@dataclass(frozen=True)
class WithoutNodes:
    """A carrier that wraps another and brings nothing to some nodes.

    Nobody intends to ask them, so an answer without them is whole. An expert that another node holds, too, is
    asked there.

    Args:
        carrier: prices and brings everything else.
        nodes: whose experts are left out; none of them is a source, whose own experts answer in the end.

    Examples:
        >>> import numpy as np
        >>> from airmoe.dispatch import WithoutNodes, dispatch
        >>> from airmoe.nn import LocalCarrier
        >>> from airmoe.scheduling import Placement, Slot
        >>> import torch
        >>> experts = [torch.nn.Identity()] * 3
        >>> slot = Slot(np.array([0]), Placement([0, 1, 2]), None, 1)
        >>> scores_TE = np.array([[0.1, 0.6, 0.3]])
        >>> carrier = WithoutNodes(LocalCarrier(), {1})
        >>> done = dispatch(torch.ones(1, 4), scores_TE, "topk:1", carrier, slot, experts)
        >>> done.arrived_TE.tolist(), done.degraded_T.tolist()
        ([[False, False, True]], [False])
    """

    carrier: Carrier[Any, Any]
    nodes: Collection[int]

    @property
    def links(self) -> Links | None:
        """Those of the other carrier."""
        return self.carrier.links

    def payload_bits(self, payload_T: Any) -> int:
        """Return what the other carrier says."""
        return self.carrier.payload_bits(payload_T)

    def price(self, payload_T: Any, slot: Slot, subcarrier_NN: NDArray[np.int64] | None = None) -> Price:
        """Return the other carrier's price; the nodes left out are out of reach."""
        price = self.carrier.price(payload_T, slot, subcarrier_NN)
        return Price(price.quoted.where(~np.isin(slot.node_TE, list(self.nodes))), price.charged)

    def can_ask(self, slot: Slot) -> NDArray[np.bool_]:
        """Return (E, R), False for the nodes left out."""
        return self.carrier.can_ask(slot) & ~np.isin(slot.placement.node_ER, list(self.nodes))

    def carry(self, transfer: Transfer[Any]) -> Delivery[Any]:
        """Have the other carrier bring what was asked for."""
        return self.carrier.carry(transfer)
