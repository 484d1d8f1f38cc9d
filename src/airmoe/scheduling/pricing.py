"""The price of a transfer over an ideal radio, shared by the simulated carrier and the mesh.

Shape suffixes: T items, E experts, N nodes.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from airmoe.errors import InvalidInputError
from airmoe.links import Links
from airmoe.scheduling.allocation import allocate_subcarriers
from airmoe.scheduling.policy import Slot

NORM_BITS = 32
"""The payload's norm travels beside it as error-free side information, whatever the radio, and is charged."""


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
