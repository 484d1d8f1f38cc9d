"""Real numbers as integers modulo 2^64, whose sums are exact in any order and can be masked.

A value x of one of n clients becomes round(x 2^f) modulo 2^64. Negative ones lie in the upper half. The sum
of n of these stands for the sum of the values as long as it stays below 2^63. So f follows from a bound 2^b
that no value of any client exceeds, and everybody can compute it:

    f = 63 - bit_length(n) - b

The step between two values that can be told apart is 2^-f, and a sum is off by half a step per client at
most. With ten clients the step is 2^-59 of the bound, where float64 has 2^-53.

The exponent b comes from a fixed grid, `BOUNDS`. How clients agree on it, see `airmoe.federated.secure_sums`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from airmoe.errors import InvalidInputError

BOUNDS = tuple(range(-64, 193, 8))
"""Exponents that a bound may have. Coarse, so that a bound tells little about the values below it."""


def fraction_bits(bound: int, clients: int) -> int:
    """Return f, the bits behind the point, of so many clients whose values are at most 2^``bound``.

    Examples:
        >>> from airmoe.federated.fixed_point import fraction_bits
        >>> fraction_bits(bound=8, clients=10)
        51
    """
    return 63 - clients.bit_length() - bound


def largest_of(name: str, values: NDArray[np.float64]) -> float:
    """Return the largest magnitude, 0 where there are no values.

    Raises:
        InvalidInputError: a value is not finite, or all of `BOUNDS` are too small; it names the tensor.
    """
    largest = float(np.abs(values).max(initial=0.0))
    if not np.isfinite(largest):
        raise InvalidInputError(f"largest value of {name}", largest, "finite values")
    if largest > 2.0 ** BOUNDS[-1]:
        raise InvalidInputError(f"largest value of {name}", largest, f"at most 2^{BOUNDS[-1]}")
    return largest


def encode(name: str, values: NDArray[np.float64], bound: int, clients: int) -> NDArray[np.uint64]:
    """Return values as integers modulo 2^64, of the same shape.

    Args:
        name: of the tensor, for errors.
        values: float64, any shape.
        bound: exponent of what no client's value exceeds.
        clients: how many are added up.

    Raises:
        InvalidInputError: a value is not finite, or larger than the bound: the sum could overflow.

    Examples:
        >>> import numpy as np
        >>> from airmoe.federated.fixed_point import decode, encode
        >>> values = [np.array([1.5, -3.0]), np.array([0.25, 2.0]), np.array([0.0, -1.0])]
        >>> total = sum(encode("w", each, bound=8, clients=3) for each in values)
        >>> decode(total, bound=8, clients=3)
        array([ 1.75, -2.  ])
    """
    if not (largest := largest_of(name, values)) <= 2.0**bound:
        expected = f"at most 2^{bound}, the bound below which {clients} clients cannot overflow"
        raise InvalidInputError(f"largest value of {name}", largest, expected)
    return np.rint(values * 2.0 ** fraction_bits(bound, clients)).astype(np.int64).view(np.uint64)


def decode(total: NDArray[np.uint64], bound: int, clients: int) -> NDArray[np.float64]:
    """Return what a sum of encoded values stands for."""
    return total.view(np.int64).astype(np.float64) * 2.0 ** -fraction_bits(bound, clients)
