"""A carrier that loses what you say, and a clock that you set: for tests of what is built on `dispatch`.

Shape suffixes: E experts, R replicas, P (item, expert) pairs sorted by expert.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airmoe.dispatch.carrier import Carrier, Delivery, Price, Transfer
from airmoe.links import Links
from airmoe.scheduling.policy import Slot


@dataclass
class ManualClock:
    """A clock that stands still until it is told to go on.

    Args:
        now_s: what it shows, in seconds.
    """

    now_s: float = 0.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now_s

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        self.now_s += seconds


class LossyCarrier:
    """A carrier that wraps another and loses what goes to some nodes; what stays at home always arrives.

    ``lost`` and ``dead`` may be changed at any time, and ``transfers`` holds what was asked of it.

    Args:
        carrier: prices all pairs, and brings those that are not lost.
        lost: nodes that are asked but never answer.
        dead: nodes that are known not to answer, so they cannot be asked.
        clock: goes on by the seconds of each transfer.
        takes_s: seconds that a transfer takes, no more than its deadline.
    """

    def __init__(
        self,
        carrier: Carrier[Any, Any],
        *,
        lost: Collection[int] = (),
        dead: Collection[int] = (),
        clock: ManualClock | None = None,
        takes_s: float = 0.0,
    ) -> None:
        self.lost, self.dead, self.transfers = set(lost), set(dead), list[Transfer[Any]]()
        self._carrier, self._clock, self._takes_s = carrier, clock or ManualClock(), takes_s

    @property
    def links(self) -> Links | None:
        """Those of the other carrier."""
        return self._carrier.links

    def payload_bits(self, payload_T: Any) -> int:
        """Return what the other carrier says."""
        return self._carrier.payload_bits(payload_T)

    def price(self, payload_T: Any, slot: Slot, subcarrier_NN: NDArray[np.int64] | None = None) -> Price:
        """Return what the other carrier says."""
        return self._carrier.price(payload_T, slot, subcarrier_NN)

    def can_ask(self, slot: Slot) -> NDArray[np.bool_]:
        """Return (E, R): what the other carrier says, but for the dead nodes."""
        return self._carrier.can_ask(slot) & ~np.isin(slot.placement.node_ER, list(self.dead))

    def carry(self, transfer: Transfer[Any]) -> Delivery[Any]:
        """Have the other carrier bring what is not lost."""
        self.transfers.append(transfer)
        self._clock.advance(min(self._takes_s, transfer.deadline_s))
        gone_P = np.isin(transfer.node_P, list(self.lost | self.dead)) & ~transfer.at_home_P
        if gone_P.all():
            nothing = np.empty(0, np.int64)
            return Delivery(nothing, nothing, transfer.payload_T[:0])
        return self._carrier.carry(transfer.of_pairs(~gone_P))
