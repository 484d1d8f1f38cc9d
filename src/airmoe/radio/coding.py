"""Codes and modulations of digital transmission, shared by its two chains and its price (ours).

* `none`: no code.
* `conv`: the convolutional code of rate 1/2, constraint length 7, generators 133 and 171. A payload is one
  codeword without tail bits: the rate is exactly 1/2, and the last bits are protected less.
* `ldpc`: the LDPC code of 5G, blocks of 512 bits in 1024. Filling bits complete the last block. They are sent
  and charged like the rest, and the decoder does not use that they are known.

Before coding, all bits, filling included, are interleaved and scrambled; the receiver knows how. A fixed
permutation interleaves: it spreads the errors of a burst or a block over all values of a payload. With a
code, the permutation starts at a place drawn for each payload, so that every bit meets the weak ends of a
codeword equally often. Scrambling adds random bits, so that all symbols are equally likely whatever the
payload. Without it errors would depend on the data: the inner points of 16-QAM are mistaken more easily, and
equal features would send the same point again and again.
"""

from functools import lru_cache

import torch
from torch import Tensor

BITS_PER_SYMBOL = {"qpsk": 2, "16qam": 4}
"""The modulations, Gray labelled."""

CODE_RATE = {"none": 1.0, "conv": 0.5, "ldpc": 0.5}

BLOCK_BITS = 512
"""Bits of an LDPC block before coding; coded it has 1024."""


def bits_before_coding(payload_bits: int, code: str) -> int:
    """Return how many bits are coded for a payload, filling included."""
    return -(-payload_bits // BLOCK_BITS) * BLOCK_BITS if code == "ldpc" else payload_bits


def symbols(payload_bits: int, modulation: str, code: str) -> float:
    """Return how many complex symbols a payload takes; unused bits of the last symbol are not charged."""
    return bits_before_coding(payload_bits, code) / (BITS_PER_SYMBOL[modulation] * CODE_RATE[code])


@lru_cache(maxsize=64)
def interleaver(bits: int) -> Tensor:
    """Return int64 (bits,), the bit at each place; the same permutation every time."""
    return torch.randperm(bits, generator=torch.Generator().manual_seed(bits))
