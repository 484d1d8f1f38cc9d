"""The price of a transfer over a radio, shared by the simulated carriers and the mesh.

Shape suffixes: T items, E experts, N nodes.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from airmoe.errors import InvalidInputError
from airmoe.links import Links, Ofdma
from airmoe.scheduling.joint.allocation import allocate_subcarriers
from airmoe.scheduling.policy import Slot

NORM_BITS = 32
"""The payload's norm travels beside it as error-free side information, whatever the radio, and is charged."""

SIDE_BITS_PER_SYMBOL = 1.0
"""Side information travels as QPSK at code rate 1/2."""


def analog_channel_uses(values: int, repeats: int = 1) -> float:
    """Return the complex symbols of a payload sent as it is: values / 2 each time, and those of its norm."""
    return repeats * values / 2 + NORM_BITS / SIDE_BITS_PER_SYMBOL


class Price(NamedTuple):
    """Joules (T, E) to have each item served by each expert; inf where it cannot be reached.

    ``quoted_j_TE`` comes from the links as observed, and policies decide on it; ``charged_j_TE`` comes from
    the links as they are, and is what a transfer costs.
    """

    quoted_j_TE: NDArray[np.float64]
    charged_j_TE: NDArray[np.float64]


class IdealPrice:
    """Joules to send each item's payload from its source to each expert: s0 P0 / r.

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
            slot: the items and the bits of their payloads.
            subcarrier_NN: the subcarriers that a joint policy decided on.

        Raises:
            InvalidInputError: the slot does not say how many bits a payload has.
        """
        if slot.bits_T is None:
            raise InvalidInputError("slot.bits_T", None, "the bits of each payload")
        per_bit = self._standing if subcarrier_NN is None else self._joules_per_bit(subcarrier_NN)
        bits_T1, link = slot.bits_T[:, np.newaxis], (slot.source_T[:, np.newaxis], slot.placement_E)
        return Price(bits_T1 * per_bit.quoted_j_TE[link], bits_T1 * per_bit.charged_j_TE[link])

    def _joules_per_bit(self, subcarrier_NN: NDArray[np.int64]) -> Price:
        links = self._links
        return Price(links.observed.energy_per_bit_j(subcarrier_NN), links.energy_per_bit_j(subcarrier_NN))


class AirtimePrice:
    """Joules to send payloads that take so many channel uses whatever the link: P0 times these over B0.

    Args:
        radio: the power and the symbol rate.
    """

    def __init__(self, radio: Ofdma) -> None:
        self._joules_per_use = radio.power_w / radio.subcarrier_hz

    def __call__(self, slot: Slot, subcarrier_NN: NDArray[np.int64] | None = None) -> Price:
        """Return the price of each pair, 0 at the item's own node; what is quoted is what is charged.

        Args:
            slot: the items; its ``bits_T`` are the channel uses of their payloads.
            subcarrier_NN: not looked at: every subcarrier costs the same.

        Raises:
            InvalidInputError: the slot does not say how many channel uses a payload takes.
        """
        if slot.bits_T is None:
            raise InvalidInputError("slot.bits_T", None, "the channel uses of each payload")
        remote_TE = slot.source_T[:, np.newaxis] != slot.placement_E
        energy_j_TE = slot.bits_T[:, np.newaxis] * remote_TE * self._joules_per_use
        return Price(energy_j_TE, energy_j_TE.copy())
