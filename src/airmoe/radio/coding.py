"""Codes and modulations: what both chains of digital transmission, and its price, agree on (ours).

* `none`: the bits as they are.
* `conv`: the convolutional code of rate 1/2, constraint length 7, generators 133 and 171. A payload is one
  codeword without tail bits, so that the rate is exactly 1/2 and its last bits are protected less.
* `ldpc`: the LDPC code of 5G, blocks of 512 bits in 1024. The last block is filled up with bits that are sent
  and charged like the rest; the decoder does not use that they are known.

Before that, bits are interleaved by a fixed permutation, filling included, and scrambled. Interleaving puts
the bits of a value far apart: what a decoder leaves wrong, in bursts or blocks, falls on values all over the
payload. Before a code the permutation is also rotated by a number of places that is drawn for each payload:
the weak ends of a codeword meet every bit equally often. Scrambling adds random bits. The receiver knows
all of this. Scrambled, all symbols are equally likely whatever the payload. Without it errors would depend on
the data: of 16-QAM the inner points are mistaken more easily, and features of one value would send one point.
"""

from functools import lru_cache

import torch
from torch import Tensor

BITS_PER_SYMBOL = {"qpsk": 2, "16qam": 4}
"""Modulations, Gray labelled."""

CODE_RATE = {"none": 1.0, "conv": 0.5, "ldpc": 0.5}

BLOCK_BITS = 512
"""Bits of an LDPC block before coding; it has 1024 after."""


def bits_before_coding(payload_bits: int, code: str) -> int:
    """Return the bits that are coded for a payload, filling included."""
    return -(-payload_bits // BLOCK_BITS) * BLOCK_BITS if code == "ldpc" else payload_bits


def symbols(payload_bits: int, modulation: str, code: str) -> float:
    """Return the complex symbols of a payload; what a last symbol has to spare is not charged."""
    return bits_before_coding(payload_bits, code) / (BITS_PER_SYMBOL[modulation] * CODE_RATE[code])


@lru_cache(maxsize=64)
def interleaver(bits: int) -> Tensor:
    """Return int64 (bits,): which bit stands at each place; always the same permutation."""
    return torch.randperm(bits, generator=torch.Generator().manual_seed(bits))
