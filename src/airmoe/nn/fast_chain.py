"""The fast digital chain: the bit flips that the full chain would leave, drawn from error rates.

Without a code every bit flips by itself, each class of bits at its own rate. With the convolutional code too,
all at the rate after decoding. With the LDPC code whole blocks fail, and the bits of a failed block flip at
the rate of such blocks. No Sionna, on any device; draws come from the device's default generator.

Shape suffixes: P pairs, D values of a payload, S segments of a payload whose bits flip at one rate, B bits of
a segment.
"""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from airmoe.nn import error_rates
from airmoe.nn.coding import BLOCK_BITS, bits_before_coding, interleaver


def transmit(level_PD: Tensor, bits: int, modulation: str, code: str, snr_db_P: Tensor) -> Tensor:
    """Return the levels that are received, uint8 (P, D).

    Args:
        level_PD: uint8, the levels that are sent.
        bits: of a level.
        modulation: "qpsk" or "16qam".
        code: "none", "conv" or "ldpc".
        snr_db_P: Es/N0 of each pair's link; inf flips nothing.
    """
    values = level_PD.shape[1]
    place_SB = _places(values, bits, modulation, code, level_PD.device)
    rate_PS = _flip_rates(values * bits, modulation, code, snr_db_P)
    flipped = _draw_flips(rate_PS, place_SB, bits * values)
    received_PD = level_PD
    for bit in range(bits):
        plane_PD = flipped[:, bit * values : (bit + 1) * values]
        received_PD = received_PD ^ (plane_PD << (bits - 1 - bit))
    return received_PD


def _flip_rates(payload_bits: int, modulation: str, code: str, snr_db_P: Tensor) -> Tensor:
    if code == "none":
        return error_rates.uncoded(snr_db_P, modulation)
    if code == "conv":
        return error_rates.convolutional(modulation, payload_bits)(snr_db_P).unsqueeze(1)
    block_rate, bit_rate = error_rates.ldpc(modulation)
    blocks = bits_before_coding(payload_bits, code) // BLOCK_BITS
    chance_PS = torch.rand(len(snr_db_P), blocks, device=snr_db_P.device)
    return (chance_PS < block_rate(snr_db_P).unsqueeze(1)) * bit_rate(snr_db_P).unsqueeze(1)


def _draw_flips(rate_PS: Tensor, place_SB: Tensor, payload_bits: int) -> Tensor:
    """Return uint8 (P, bits + 1): 1 where a bit flips; the last column is not used.

    Bits are hit at random, and one that is hit at least once flips: with -ln(1 - p) hits on average that
    happens with probability p, to each bit by itself. The work is that of the flips, not of all bits.
    """
    pairs, segments = rate_PS.shape
    segment_bits, device = place_SB.shape[1], rate_PS.device
    hits_R = torch.poisson(-torch.log1p(-rate_PS) * segment_bits).long().flatten()
    row_R = torch.arange(pairs * segments, device=device)
    row = torch.repeat_interleave(row_R, hits_R)
    pair, segment = (row, 0) if segments == 1 else (row // segments, row % segments)
    bit = torch.randint(segment_bits, row.shape, device=device)
    flipped = torch.zeros(pairs, payload_bits + 1, dtype=torch.uint8, device=device)
    flipped.view(-1)[pair * (payload_bits + 1) + place_SB.view(-1)[segment * segment_bits + bit]] = 1
    return flipped


@lru_cache(maxsize=64)
def _places(values: int, bits: int, modulation: str, code: str, device: torch.device) -> Tensor:
    """Return int64 (S, B): where each bit of a segment stands among the payload's bits.

    There all first bits of the values come first, then all second ones; filling is sent to the end.
    """
    payload_bits = values * bits
    bit_B = interleaver(bits_before_coding(payload_bits, code))
    if code == "ldpc":
        bit_SB = bit_B.unflatten(0, (-1, BLOCK_BITS))
    elif code == "none" and modulation == "16qam":  # the first two bits of every symbol, and the last two
        whole_B = functional.pad(bit_B, (0, -payload_bits % 4), value=payload_bits)
        bit_SB = whole_B.view(-1, 2, 2).transpose(0, 1).flatten(1)
    else:
        bit_SB = bit_B.unsqueeze(0)
    place_SB = bit_SB % bits * values + bit_SB // bits
    return torch.where(bit_SB < payload_bits, place_SB, payload_bits).contiguous().to(device)
