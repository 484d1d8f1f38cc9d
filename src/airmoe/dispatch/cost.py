"""The price of a transfer over a radio; simulated carriers and the mesh share it.

Shape suffixes: T items, E experts, N nodes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import ArrayLike, NDArray

from airmoe.dispatch.carrier import Price, Transfer
from airmoe.errors import InvalidInputError
from airmoe.links import Links, LinkSnr, Ofdma
from airmoe.links.analog import LOWEST_SNR_DB
from airmoe.scheduling.cost import Cost
from airmoe.scheduling.joint.allocation import allocate_subcarriers
from airmoe.scheduling.policy import Slot

NORM_BITS = 32
"""Bits of a payload's norm, which travels beside it as error-free side information and is charged."""

MOST_SIDE_BITS_PER_USE = 1.0
"""Side information travels as QPSK at code rate 1/2 where the link carries that."""


def side_uses(bits: int, snr_db: ArrayLike) -> NDArray[np.float64]:
    """Return the complex symbols that error-free side information takes: bits / min(1, log2(1 + snr)).

    At 0 dB and above one bit travels per symbol. Below, no code brings more than Shannon's log2(1 + snr).
    The result is rounded up.

    Args:
        bits: of the side information.
        snr_db: dB, any shape; anything below -40 counts as -40, as with the noise of analog transmission.

    Returns:
        float64 of the same shape.

    Examples:
        >>> from airmoe.dispatch import side_uses
        >>> side_uses(32, [20.0, 0.0, -5.0, -10.0])
        array([ 32.,  32.,  81., 233.])
    """
    snr = 10.0 ** (np.maximum(np.asarray(snr_db, dtype=np.float64), LOWEST_SNR_DB) / 10)
    bits_per_use = np.minimum(np.log1p(snr) / np.log(2), MOST_SIDE_BITS_PER_USE)
    return np.asarray(np.ceil(bits / bits_per_use - 1e-9))  # rounding must not cost a symbol


def analog_channel_uses(values: int, snr_db: ArrayLike, repeats: int = 1) -> NDArray[np.float64]:
    """Return the complex symbols of an analog payload at each SNR: values / 2 per repeat, and its norm's."""
    return repeats * values / 2 + side_uses(NORM_BITS, snr_db)


def snr_met(slot: Slot, links: Links | None) -> LinkSnr:
    """Return the SNR of each item's link to each expert: the slot's own, else that of the links.

    Raises:
        InvalidInputError: there is neither.
    """
    if slot.snr is not None:
        return slot.snr
    if links is None:
        raise InvalidInputError("snr", None, "the SNR of each item's links, or a carrier with links")
    ends = slot.source_T, slot.node_TE
    return LinkSnr(links.snr_db(*ends), None if links.observed is links else links.observed.snr_db(*ends))


class IdealPrice:
    """What bits cost at the Shannon rate r of a link: s0 / r seconds, and s0 P0 / r joules.

    Where the radio charges outputs, the reverse link's seconds and joules come on top.

    A sender knows the links as observed, and sends at their rate. That is what it pays, whatever the links
    are in truth. If the true rate is lower, nothing arrives (an outage).

    Args:
        links: the links, as they are and as observed.
        subcarrier_NN: int64, the subcarrier of each directed link while no joint policy decides on them; by
            default the assignment of least energy for equal loads over the links as observed.
    """

    def __init__(self, links: Links, subcarrier_NN: NDArray[np.int64] | None = None) -> None:
        self._links = links
        self.subcarrier_NN = allocate_subcarriers(links.observed) if subcarrier_NN is None else subcarrier_NN
        self._standing_NN = self._joules_per_bit_NN(self.subcarrier_NN)
        # A source asks about the same slot again and again, and links stand for a while.
        self._priced: WeakKeyDictionary[Slot, Price] = WeakKeyDictionary()

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
        if subcarrier_NN is None:
            if (price := self._priced.get(slot)) is None:
                self._priced[slot] = price = self._price(slot, self._standing_NN)
            return price
        return self._price(slot, self._joules_per_bit_NN(subcarrier_NN))

    def _joules_per_bit_NN(self, subcarrier_NN: NDArray[np.int64]) -> NDArray[np.float64]:
        there_NN = self._links.observed.energy_per_bit_j(subcarrier_NN)
        return there_NN + there_NN.T if self._links.radio.charge_return else there_NN

    def _price(self, slot: Slot, joules_per_bit_NN: NDArray[np.float64]) -> Price:
        assert slot.bits_T is not None
        bits_T1, link = slot.bits_T[:, np.newaxis], (slot.source_T[:, np.newaxis], slot.node_TE)
        energy_j_TE = bits_T1 * joules_per_bit_NN[link]
        cost = Cost(energy_j_TE, energy_j_TE / self._links.radio.power_w)
        return Price(cost, cost)

    def arrives_P(self, transfer: Transfer[Any]) -> NDArray[np.bool_]:
        """Return (P,): False where the rate that was chosen is above what the link carries in truth.

        What stays at the item's own node arrives. With knowledge that is up to date everything does.
        """
        links = self._links
        if links.observed is links:
            return np.ones(len(transfer.item_P), np.bool_)
        subcarrier_NN = self.subcarrier_NN if transfer.subcarrier_NN is None else transfer.subcarrier_NN
        source_P, node_P = transfer.slot.source_T[transfer.item_P], transfer.node_P
        arrives_P = np.ones(len(node_P), np.bool_)
        ways = [(source_P, node_P), (node_P, source_P)]
        for from_P, to_P in ways if links.radio.charge_return else ways[:1]:
            link_P = from_P, to_P, subcarrier_NN[from_P, to_P]
            chosen_P, carried_P = (
                each.radio.rate_bps(each.gain_NNM[link_P]) for each in (links.observed, links)
            )
            arrives_P &= chosen_P <= carried_P
        return transfer.at_home_P | arrives_P


class AirtimePrice:
    """What u channel uses cost: u / B0 seconds, and P0 u / B0 joules.

    The payload takes as many on any link, its side information more on a bad one.

    Args:
        radio: the power and the symbol rate.
        links: the links, as they are and as observed, for slots that hold no SNR of their own.
    """

    def __init__(self, radio: Ofdma, links: Links | None = None) -> None:
        if radio.charge_return:
            raise InvalidInputError("charge_return", True, "False where channel uses are charged, not bits")
        self._radio, self._links = radio, links

    def __call__(
        self, slot: Slot, channel_uses: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    ) -> Price:
        """Return the price of each pair, 0 at the item's own node.

        Args:
            slot: the items, and the nodes that would serve them.
            channel_uses: SNRs in dB to the complex symbols of one payload with its side information; a part
                of a symbol counts as one.

        Raises:
            InvalidInputError: neither the slot nor the links say how good a link is.
        """
        snr = snr_met(slot, self._links)
        charged = self._cost(slot, channel_uses(snr.true_db_TE))
        if snr.observed_db_TE is snr.true_db_TE:
            return Price(charged, charged)
        return Price(self._cost(slot, channel_uses(snr.observed_db_TE)), charged)

    def _cost(self, slot: Slot, uses_TE: NDArray[np.float64]) -> Cost:
        uses_TE = np.where(slot.at_home_TE, 0.0, np.ceil(uses_TE))
        joules_per_use = self._radio.power_w / self._radio.subcarrier_hz
        return Cost(uses_TE * joules_per_use, uses_TE / self._radio.subcarrier_hz)
