"""A uniform quantiser with natural binary levels, and the bits of its levels.

Its 2^b levels lie in the middle of equal steps q over [-c, c]. The range c depends on b: it is the one of
least mean square error for a Gaussian of mean 0 and variance 1 (Max 1960). Fewer levels want a smaller range:
over [-3, 3] the error of one bit would be .856 instead of .363, that of two bits .190 instead of .119. If all
levels are equally likely, independent bit flips with probability p add p q^2 (4^b - 1) / 3 to it.

Shape suffixes: P pairs, D values of a payload, B = D b bits of a payload, each value's most significant bit
first.
"""

import torch
from torch import Tensor

CLIP_RANGES = (1.5958, 1.9914, 2.3441, 2.6816, 3.0102, 3.3300, 3.6395, 3.9376)
"""c for 1 to 8 bits: values of variance 1 are clipped to [-c, c]."""


def clip_range(bits: int) -> float:
    """Return c, where values of variance 1 are clipped."""
    return CLIP_RANGES[bits - 1]


def step(bits: int) -> float:
    """Return q, the distance between neighbouring levels."""
    return 2 * clip_range(bits) / (1 << bits)


def quantise(value_PD: Tensor, bits: int) -> Tensor:
    """Return the level nearest to each value of [-c, c], uint8 from 0 to 2^bits - 1."""
    # The conversion to uint8 rounds down, since all values are >= 0.
    return ((value_PD + clip_range(bits)) / step(bits)).clamp_max((1 << bits) - 1).to(torch.uint8)


def dequantise(level_PD: Tensor, bits: int, dtype: torch.dtype) -> Tensor:
    """Return the value of each level, -c + (level + 1/2) q."""
    return level_PD.to(dtype) * step(bits) + (step(bits) / 2 - clip_range(bits))


def to_bits(level_PD: Tensor, bits: int) -> Tensor:
    """Return the bits of all levels, uint8 (P, B)."""
    shifted_PDb: Tensor = level_PD.unsqueeze(-1) >> _places(bits, level_PD.device)
    return torch.bitwise_and(shifted_PDb, 1).flatten(1)


def from_bits(bit_PB: Tensor, bits: int) -> Tensor:
    """Return the levels, uint8 (P, D), that have these bits."""
    place_PDb = bit_PB.unflatten(1, (-1, bits)) << _places(bits, bit_PB.device)
    level_PD: Tensor = place_PDb.sum(dim=-1, dtype=torch.uint8)
    return level_PD


def _places(bits: int, device: torch.device) -> Tensor:
    return torch.arange(bits - 1, -1, -1, dtype=torch.uint8, device=device)
