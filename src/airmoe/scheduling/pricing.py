"""The price of a transfer over an ideal radio, shared by the simulated carrier and the mesh.

Shape suffixes: T items, E experts, N nodes.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

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
    """Joules to send a payload of so many bits from each item's source to each expert: s0 P0 / r.

    Args:
        links: the links, as they are and as observed.
        subcarrier_NN: int64, the subcarrier of each directed link; by default the assignment of least energy
            for equal loads over the links as observed.
    """

    def __init__(self, links: Links, subcarrier_NN: NDArray[np.int64] | None = None) -> None:
        allocation = allocate_subcarriers(links.observed) if subcarrier_NN is None else subcarrier_NN
        self._observed_j_NN = links.observed.energy_per_bit_j(allocation)
        self._true_j_NN = links.energy_per_bit_j(allocation)

    def __call__(self, payload_bits: int, slot: Slot) -> Price:
        """Return the price of each pair; 0 at the item's own node, inf where the link has no gain."""
        bits, link = payload_bits + NORM_BITS, (slot.source_T[:, None], slot.placement_E)
        return Price(bits * self._observed_j_NN[link], bits * self._true_j_NN[link])
