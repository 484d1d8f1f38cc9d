"""A carrier that sends payloads over simulated radio links: experts get what a receiver would get.

Shape suffixes: T items, E experts, N nodes, P (item, expert) pairs sorted by expert.
"""

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from airmoe.dispatch import NORM_BITS, AirtimePrice, Delivery, Price, Transfer, snr_met
from airmoe.links import Links, Ofdma
from airmoe.nn.carriers import bits_of, run_experts
from airmoe.radio.transmission import Transmission
from airmoe.scheduling import Slot


class RadioCarrier:
    """Experts in this process behind noisy links: every pair is transmitted at the SNR of its link.

    An expert at the item's own node gets the payload as it is. The way back is free of errors, and so is
    every link whose SNR is inf. Noise is drawn from PyTorch's default generator.

    A payload takes the same number of channel uses whatever the SNR, its side information more below 0 dB.
    u of them take u / B0 seconds and P0 u / B0 joules.

    Args:
        transmission: `airmoe.radio.Analog` or `airmoe.radio.Digital`.
        links: the links of the nodes, as they are and as observed; left out, every slot must hold the SNR
            that its items meet.
        radio: the power and symbol rate that a transfer is priced by; left out, those of ``links``, or the
            defaults of `Ofdma`.
    """

    def __init__(
        self, transmission: Transmission, links: Links | None = None, radio: Ofdma | None = None
    ) -> None:
        self.transmission, self.links = transmission, links
        self.radio = radio or (links.radio if links else Ofdma())

    def payload_bits(self, payload_T: Tensor) -> int:
        """Return the bits of an item's payload and of its norm, though the radio charges channel uses."""
        return bits_of(payload_T) + NORM_BITS

    def price(self, payload_T: Tensor, slot: Slot, subcarrier_NN: NDArray[np.int64] | None = None) -> Price:
        """Return the price of a payload's channel uses; half a channel use counts as one.

        Raises:
            InvalidInputError: neither the slot nor the carrier's links say how good a link is.
        """
        uses = partial(self.transmission.channel_uses, payload_T[0].numel())
        return AirtimePrice(self.radio, self.links)(slot, uses)

    def can_ask(self, slot: Slot) -> NDArray[np.bool_]:
        """Return (E, R), all True."""
        return np.ones(slot.placement.node_ER.shape, dtype=np.bool_)

    def carry(self, transfer: Transfer[Tensor]) -> Delivery[Tensor]:
        """Transmit every pair, then run each expert once on all that it received; everything arrives."""
        payload_T, item_P = transfer.payload_T, torch.from_numpy(transfer.item_P)
        # The rounding of bfloat16 would drown a fine quantiser and a little noise.
        fine = torch.promote_types(payload_T.dtype, torch.float32)
        sent_P = payload_T[item_P.to(payload_T.device)].to(fine)
        true_db_TE = snr_met(transfer.slot, self.links).true_db_TE
        true_db_P = true_db_TE[transfer.item_P, transfer.expert_P]
        snr_db_P = torch.from_numpy(np.where(transfer.at_home_P, np.inf, true_db_P))
        received_P = self.transmission(sent_P, snr_db_P.to(sent_P))
        own_P = torch.from_numpy(transfer.at_home_P).to(sent_P.device)
        received_P = torch.where(own_P.reshape(-1, *[1] * (sent_P.ndim - 1)), sent_P, received_P)
        output_P = run_experts(transfer.experts, transfer.expert_P, received_P)
        return Delivery(transfer.item_P, transfer.expert_P, output_P)
