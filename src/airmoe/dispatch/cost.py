"""The price of a transfer over a radio; simulated carriers and the mesh share it.

Shape suffixes: T items, E experts, N nodes.
"""

import numpy as np
from numpy.typing import NDArray

from airmoe.dispatch.carrier import Price
from airmoe.errors import InvalidInputError
from airmoe.links import Links, Ofdma
from airmoe.scheduling.cost import Cost, unchecked
from airmoe.scheduling.joint.allocation import allocate_subcarriers
from airmoe.scheduling.policy import Slot

NORM_BITS = 32
"""Bits of a payload's norm, which travels beside it as error-free side information and is charged."""

SIDE_BITS_PER_SYMBOL = 1.0
"""Side information travels as QPSK at code rate 1/2."""


def analog_channel_uses(values: int, repeats: int = 1) -> float:
    """Return the complex symbols of an analog payload: values / 2 per repeat, and those of its norm."""
    return repeats * values / 2 + NORM_BITS / SIDE_BITS_PER_SYMBOL


class IdealPrice:
    """What bits cost at the Shannon rate r of a link: s0 / r seconds, and s0 P0 / r joules.

    Args:
        links: the links, as they are and as observed.
        subcarrier_NN: int64, the subcarrier of each directed link while no joint policy decides on them; by
            default the assignment of least energy for equal loads over the links as observed.
    """

    def __init__(self, links: Links, subcarrier_NN: NDArray[np.int64] | None = None) -> None:
        self._links = links
        self.subcarrier_NN = allocate_subcarriers(links.observed) if subcarrier_NN is None else subcarrier_NN
        self._standing = self._joules_per_bit(self.subcarrier_NN)

    def __call__(self, slot: Slot, subcarrier_NN: NDArray[np.int64] | None = None) -> Price:
        """Return the price of each pair; 0 at the item's own node, inf where the link has no gain.

        Args:
            slot: the items, the bits of their payloads, and the nodes that would serve them.
            subcarrier_NN: the subcarriers that a joint policy decided on.

        Raises:
            InvalidInputError: the slot does not say how many bits a payload has, or a quoted energy is above
            1e250 J.
        """
        if slot.bits_T is None:
            raise InvalidInputError("slot.bits_T", None, "the bits of each payload")
        quoted_NN, charged_NN = (
            self._standing if subcarrier_NN is None else self._joules_per_bit(subcarrier_NN)
        )
        bits_T1, link = slot.bits_T[:, np.newaxis], (slot.source_T[:, np.newaxis], slot.node_TE)
        quoted_j_TE, charged_j_TE = bits_T1 * quoted_NN[link], bits_T1 * charged_NN[link]
        power_w = self._links.radio.power_w
        return Price(
            Cost(quoted_j_TE, quoted_j_TE / power_w), unchecked(charged_j_TE, charged_j_TE / power_w)
        )

    def _joules_per_bit(
        self, subcarrier_NN: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        links = self._links
        return links.observed.energy_per_bit_j(subcarrier_NN), links.energy_per_bit_j(subcarrier_NN)


class AirtimePrice:
    """What u channel uses cost, whatever the link: u / B0 seconds, and P0 u / B0 joules.

    Args:
        radio: the power and the symbol rate.
    """

    def __init__(self, radio: Ofdma) -> None:
        self._radio = radio

    def __call__(self, slot: Slot, channel_uses: float) -> Price:
        """Return the price of each pair, 0 at the item's own node; what is quoted is what is charged.

        Args:
            slot: the items, and the nodes that would serve them.
            channel_uses: complex symbols of one payload with its side information.
        """
        uses_TE = channel_uses * ~slot.at_home_TE
        joules_per_use = self._radio.power_w / self._radio.subcarrier_hz
        cost = Cost(uses_TE * joules_per_use, uses_TE / self._radio.subcarrier_hz)
        return Price(cost, cost)
