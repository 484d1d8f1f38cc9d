"""Carriers that send payloads over simulated radio links: what experts get is what a receiver would.

Shape suffixes: T items, E experts, N nodes, P (item, expert) pairs sorted by expert.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from airmoe.dispatch import AirtimePrice, Price
from airmoe.dispatch.loop import Delivery
from airmoe.errors import InvalidInputError
from airmoe.links import Links, Ofdma
from airmoe.nn.carriers import run_experts
from airmoe.radio.transmission import Transmission
from airmoe.scheduling import Slot


class RadioCarrier:
    """Experts in this process behind noisy links: every pair is transmitted at the SNR of its link.

    An expert at the item's own node gets the payload as it is. The way back is free of errors, and so is
    every link whose SNR is inf. Noise is drawn from PyTorch's default generator.

    A payload takes the same number of channel uses whatever the SNR, so it costs P0 times these over B0.

    Args:
        transmission: `airmoe.nn.Analog` or `airmoe.nn.Digital`.
        links: the links of the nodes, as they are and as observed; left out, every slot must say what SNR
            its items meet.
        radio: the power and symbol rate that a transfer is priced by; left out, those of ``links``, or the
            defaults of `Ofdma`.
    """

    def __init__(
        self, transmission: Transmission, links: Links | None = None, radio: Ofdma | None = None
    ) -> None:
        self.transmission, self.links = transmission, links
        self.radio = radio or (links.radio if links else Ofdma())

    def payload_bits(self, payload_T: Tensor) -> int:
        """Return what this radio charges instead of bits: channel uses of an item, half a one as one."""
        return math.ceil(self.transmission.channel_uses(payload_T[0].numel()))

    def price_j(self, slot: Slot, subcarrier_NN: NDArray[np.int64] | None = None) -> Price:
        """Return P0 times channel uses / B0 for each pair; see `airmoe.scheduling.AirtimePrice`."""
        return AirtimePrice(self.radio)(slot, subcarrier_NN)

    def carry(
        self,
        payload_T: Tensor,
        item_P: NDArray[np.int64],
        expert_P: NDArray[np.int64],
        slot: Slot,
        experts: Sequence[nn.Module],
        deadline_s: float = 0.0,
    ) -> Delivery[Tensor]:
        """Transmit every pair, then run each expert once on all that it received; everything arrives."""
        # In bfloat16 a fine quantiser and a little noise would drown in rounding.
        fine = torch.promote_types(payload_T.dtype, torch.float32)
        sent_P = payload_T[torch.from_numpy(item_P).to(payload_T.device)].to(fine)
        remote_P = slot.source_T[item_P] != slot.placement_E[expert_P]
        snr_db_P = torch.from_numpy(np.where(remote_P, self._snr_db_TE(slot)[item_P, expert_P], np.inf))
        received_P = self.transmission(sent_P, snr_db_P.to(sent_P))
        own_P = torch.from_numpy(~remote_P).to(sent_P.device)
        received_P = torch.where(own_P.reshape(-1, *[1] * (sent_P.ndim - 1)), sent_P, received_P)
        return Delivery(item_P, expert_P, run_experts(experts, expert_P, received_P))

    def _snr_db_TE(self, slot: Slot) -> NDArray[np.float64]:
        if slot.snr is not None:
            return slot.snr.true_db_TE
        if self.links is None:
            raise InvalidInputError("snr", None, "the SNR of each item's links, or a carrier with links")
        return self.links.snr_db(slot.source_T, slot.placement_E)
