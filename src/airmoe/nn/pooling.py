"""What a gate sees of a payload: a vector, whatever the payload's shape.

Shape suffixes: T items, F features.
"""

from typing import Literal, get_args

from torch import Tensor

from airmoe.errors import InvalidInputError, one_of

Pooling = Literal["vector", "map", "tokens"]
"""What a payload is: a vector (T, F), a map (T, F, H, W), or tokens (T, L, F), the class token first."""

_AXES: dict[Pooling, int] = {"vector": 2, "map": 4, "tokens": 3}


def checked_pooling(pooling: str) -> Pooling:
    """Return ``pooling``; raise `InvalidInputError` if it is none of the known ones."""
    if not isinstance(pooling, str) or pooling not in _AXES:
        raise InvalidInputError("pooling", pooling, one_of(pooling, get_args(Pooling)))
    return pooling


def pool(payload_T: Tensor, pooling: Pooling) -> Tensor:
    """Return (T, F): a vector as it is, the mean of a map over its area, the first token of a grid.

    Raises:
        InvalidInputError: the payload has another number of axes.
    """
    if payload_T.ndim != _AXES[checked_pooling(pooling)]:
        expected = f"{_AXES[pooling]}, the axes of a {pooling}"
        raise InvalidInputError("axes of payload", payload_T.ndim, expected)
    if pooling == "map":
        return payload_T.mean(dim=(2, 3))
    return payload_T[:, 0] if pooling == "tokens" else payload_T
