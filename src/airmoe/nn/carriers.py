"""Simulated carriers: experts in this process, with or without a radio to pay for.

Shape suffixes: T items, E experts, N nodes, R replicas, P (item, expert) pairs sorted by expert.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from airmoe.dispatch import NORM_BITS, Delivery, IdealPrice, Price, Transfer
from airmoe.links import Links
from airmoe.scheduling import Cost, Slot


def run_experts(experts: Sequence[nn.Module], expert_P: NDArray[np.int64], payload_P: Tensor) -> Tensor:
    """Return the outputs (P, ...) of all pairs; each expert that has any runs one forward pass.

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

    def price(self, payload_T: Tensor, slot: Slot, subcarrier_NN: NDArray[np.int64] | None = None) -> Price:
        """Return zeros."""
        nothing = Cost(np.zeros(slot.node_TE.shape))
        return Price(nothing, nothing)

    def can_ask(self, slot: Slot) -> NDArray[np.bool_]:
        """Return (E, R), all True."""
        return np.ones(slot.placement.node_ER.shape, dtype=np.bool_)

    def carry(self, transfer: Transfer[Tensor]) -> Delivery[Tensor]:
        """Run each expert once on all of its items; everything arrives."""
        payload_T, item_P = transfer.payload_T, torch.from_numpy(transfer.item_P)
        output_P = run_experts(transfer.experts, transfer.expert_P, payload_T[item_P.to(payload_T.device)])
        return Delivery(transfer.item_P, transfer.expert_P, output_P)


class IdealRadioCarrier(LocalCarrier):
    """Experts in this process behind links that carry bits at the Shannon rate, without error.

    Each directed link has one subcarrier of its own, or none where there are too few. A payload takes s0 / r
    seconds and s0 P0 / r joules, where s0 is its bits and 32 more for its norm, and r the rate of the link as
    observed. A payload for which the link's true rate is lower does not arrive, and is paid all the same.

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
        return bits_of(payload_T) + NORM_BITS

    def price(self, payload_T: Tensor, slot: Slot, subcarrier_NN: NDArray[np.int64] | None = None) -> Price:
        """Return joules and seconds, 0 for an expert at the item's own node."""
        return self._price(slot, subcarrier_NN)

    def carry(self, transfer: Transfer[Tensor]) -> Delivery[Tensor]:
        """Run each expert once on all of its items but those whose link carries less than was thought."""
        arrives_P = self._price.arrives_P(transfer)
        if arrives_P.all():
            return super().carry(transfer)
        if not arrives_P.any():
            nobody = np.empty(0, np.int64)
            return Delivery(nobody, nobody, transfer.payload_T[:0])
        return super().carry(transfer.of_pairs(arrives_P))


def bits_of(payload_T: Tensor) -> int:
    """Return the bits of one item's payload."""
    return payload_T[0].numel() * payload_T.element_size() * 8
