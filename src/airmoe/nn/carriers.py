"""Simulated carriers: experts in this process, with or without a radio to pay for.

Shape suffixes: T items, E experts, N nodes, P (item, expert) pairs sorted by expert.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from airmoe.dispatch import NORM_BITS, IdealPrice, Price
from airmoe.dispatch.loop import Delivery
from airmoe.links import Links
from airmoe.scheduling import Slot


def run_experts(experts: Sequence[nn.Module], expert_P: NDArray[np.int64], payload_P: Tensor) -> Tensor:
    """Return the outputs (P, ...) of every pair: one forward pass for each expert that has any.

    Args:
        experts: by number.
        expert_P: ascending.
        payload_P: what each pair's expert is given.
    """
    used, first = np.unique(expert_P, return_index=True)
    groups = payload_P.tensor_split(first[1:].tolist())
    return torch.cat([experts[expert](group) for expert, group in zip(used, groups, strict=True)])


class LocalCarrier:
    """Experts in this process; a transfer costs nothing and nothing is lost."""

    links: Links | None = None

    def payload_bits(self, payload_T: Tensor) -> int:
        """Return 0: nothing travels."""
        return 0

    def price_j(self, slot: Slot, subcarrier_NN: NDArray[np.int64] | None = None) -> Price:
        """Return zeros (T, E)."""
        shape = len(slot.source_T), len(slot.placement_E)
        return Price(np.zeros(shape), np.zeros(shape))

    def carry(
        self,
        payload_T: Tensor,
        item_P: NDArray[np.int64],
        expert_P: NDArray[np.int64],
        slot: Slot,
        experts: Sequence[nn.Module],
        deadline_s: float = 0.0,
    ) -> Delivery[Tensor]:
        """Run each expert once on all of its items; everything arrives."""
        payload_P = payload_T[torch.from_numpy(item_P).to(payload_T.device)]
        return Delivery(item_P, expert_P, run_experts(experts, expert_P, payload_P))


class IdealRadioCarrier(LocalCarrier):
    """Experts in this process behind links that carry bits at the Shannon rate, without error.

    Each directed link has one subcarrier of its own, or none where there are too few. A payload costs
    s0 P0 / r joules, s0 its bits and 32 more for its norm.

    Args:
        links: the links, as they are and as observed.
        subcarrier_NN: the subcarrier of each link while no joint policy decides on them; by default the
            least-energy assignment for equal loads.
    """

    def __init__(self, links: Links, subcarrier_NN: NDArray[np.int64] | None = None) -> None:
        self.links = links
        self._price = IdealPrice(links, subcarrier_NN)

    def payload_bits(self, payload_T: Tensor) -> int:
        """Return the bits of an item's payload and of its norm."""
        return payload_T[0].numel() * payload_T.element_size() * 8 + NORM_BITS

    def price_j(self, slot: Slot, subcarrier_NN: NDArray[np.int64] | None = None) -> Price:
        """Return (T, E) joules, 0 for an expert at the item's own node."""
        return self._price(slot, subcarrier_NN)
