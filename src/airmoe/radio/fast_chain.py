"""The fast digital chain: it draws from error rates the bit flips that the full chain would leave.

Without a code, bits flip independently, each class of bits at its own rate. The convolutional code leaves
error events that flip several bits each (`airmoe.radio.error_events`). With the LDPC code whole blocks fail,
and failed blocks have such events. The chain needs no Sionna and runs on any device, whose default generator
draws.

Shape suffixes: P pairs, D values of a payload, S segments of a payload whose bits flip at one rate, B bits of
a segment.
"""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from airmoe.radio import error_rates
from airmoe.radio.coding import BLOCK_BITS, bits_before_coding, interleaver


def transmit(level_PD: Tensor, bits: int, modulation: str, code: str, snr_db_P: Tensor) -> Tensor:
    """Return the levels that are received, uint8 (P, D).

    Args:
        level_PD: uint8, the levels that are sent.
        bits: the bits of a level.
        modulation: "qpsk" or "16qam".
        code: "none", "conv" or "ldpc".
        snr_db_P: Es/N0 of each pair's link, dB; inf flips nothing.
    """
    values = level_PD.shape[1]
    place_SB = _places(values, bits, modulation, code, level_PD.device)
    hits_PS = _draw_hits(place_SB, values * bits, modulation, code, snr_db_P)
    flipped = _flipped(hits_PS, place_SB, bits * values)
    received_PD = level_PD
    for bit in range(bits):
        plane_PD = flipped[:, bit * values : (bit + 1) * values]
        received_PD = received_PD ^ (plane_PD << (bits - 1 - bit))
    return received_PD


def _draw_hits(place_SB: Tensor, payload_bits: int, modulation: str, code: str, snr_db_P: Tensor) -> Tensor:
    """Return (P, S), the number of hits of every segment; a bit may be hit more than once."""
    segments, segment_bits = place_SB.shape
    if code == "none":
        # With -ln(1 - p) hits on average, a bit is hit at least once with probability p.
        return torch.poisson(-torch.log1p(-error_rates.uncoded(snr_db_P, modulation)) * segment_bits)
    if code == "conv":
        curves = error_rates.convolutional(modulation, payload_bits)
        burst_P1 = curves.burst(snr_db_P).clamp_min(1).unsqueeze(1)
        missed_P1 = -torch.log1p(-curves.bit(snr_db_P)).unsqueeze(1)
        return _hits_of_events(torch.poisson(missed_P1 * (1 + (segment_bits - 1) / burst_P1)), burst_P1)
    block, events, burst = (curve(snr_db_P).unsqueeze(1) for curve in error_rates.ldpc(modulation))
    chance_PS = torch.rand(len(snr_db_P), segments, device=snr_db_P.device)
    # A Poisson number of at least 1: the first event comes at this time, the others after it.
    first_PS = -torch.log1p(torch.rand_like(chance_PS) * torch.expm1(-events))
    events_PS = 1 + torch.poisson((events - first_PS).clamp_min(0))
    return _hits_of_events(events_PS * (chance_PS < block), burst.clamp_min(1))


def _hits_of_events(events_PS: Tensor, burst_P1: Tensor) -> Tensor:
    """Return the sum of ``events_PS`` geometric numbers, each at least 1 and ``burst`` on average."""
    waiting_PS = torch.distributions.Gamma(events_PS.clamp_min(1), 1.0, validate_args=False).sample()
    return events_PS + torch.poisson(waiting_PS * (burst_P1 - 1) * (events_PS > 0))


def _flipped(hits_PS: Tensor, place_SB: Tensor, payload_bits: int) -> Tensor:
    """Return uint8 (P, bits + 1), 1 where a bit is hit; the last column collects hits of the filling.

    The work grows with the hits, not with all bits.
    """
    pairs, segments = hits_PS.shape
    segment_bits, device = place_SB.shape[1], hits_PS.device
    width = payload_bits + 1
    # Where each (pair, segment) begins: among the bits of all pairs, and among the places.
    pair_R = torch.arange(0, pairs * width, width, device=device).repeat_interleave(segments)
    segment_R = torch.arange(0, segments * segment_bits, segment_bits, device=device).repeat(pairs)
    row = torch.repeat_interleave(hits_PS.long().flatten())
    bit = torch.randint(segment_bits, row.shape, device=device)
    flipped = torch.zeros(pairs, width, dtype=torch.uint8, device=device)
    flipped.view(-1)[pair_R[row] + place_SB.view(-1)[segment_R[row] + bit]] = 1
    return flipped


@lru_cache(maxsize=64)
def _places(values: int, bits: int, modulation: str, code: str, device: torch.device) -> Tensor:
    """Return int64 (S, B), the place of each bit of a segment among the payload's bits.

    The payload's bits are all first bits of the values, then all second ones, and so on. Filling has the
    place after them.
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
