"""The price of a transfer over an ideal radio, shared by the simulated carrier and the mesh.

Shape suffixes: T items, E experts, N nodes.
"""

import numpy as np
from numpy.typing import NDArray

from airmoe.links import Links
from airmoe.scheduling.allocation import allocate_subcarriers
from airmoe.scheduling.policy import Slot

NORM_BITS = 32
"""The payload's norm travels beside it as error-free side information, whatever the radio, and is charged."""


class IdealPrice:
    """Joules to send a payload of so many bits from each item's source to each expert: s0 P0 / r.

    Args:
        links: the links as they are.
        subcarrier_NN: int64, the subcarrier of each directed link; by default the assignment of least energy
            for equal loads.
    """

    def __init__(self, links: Links, subcarrier_NN: NDArray[np.int64] | None = None) -> None:
        allocation = allocate_subcarriers(links) if subcarrier_NN is None else subcarrier_NN
        self.energy_per_bit_j_NN = links.energy_per_bit_j(allocation)

    def __call__(self, payload_bits: int, slot: Slot) -> NDArray[np.float64]:
        """Return (T, E) joules; 0 at the item's own node, inf where the link has no gain."""
        return (payload_bits + NORM_BITS) * self.energy_per_bit_j_NN[slot.source_T[:, None], slot.placement_E]
