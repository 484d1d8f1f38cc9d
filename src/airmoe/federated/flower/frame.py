"""A message as bytes: a header in JSON, the arrays raw, the letters raw.

No part can hold code. Every type, shape and length is checked before an array is made.

    header   {"about": {...}, "numbers": {...}, "tensors": [...], "letters": [[client, [...]], ...]}
    each [...] lists [name, type, shape] of the arrays, which follow one another in ``tensors`` or ``letters``

The three parts travel apart: weights that all clients are sent are equal bytes, which Flower stores once.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from airmoe.errors import FrameError
from airmoe.federated.exchange import Message, State

LARGEST_MESSAGE_BYTES = 1 << 30
"""What a message to or from a client may hold at most; a larger one is refused unread."""

LARGEST_HEADER_BYTES = 1 << 24
"""What a header may hold at most: names and shapes of a large network fill a hundredth of it."""

_TYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
        *(torch.complex128, torch.complex64),
    )
}
_MOST_AXES = 16

if sys.byteorder != "little":
    raise ImportError("Federated training across machines needs little-endian machines.")


@dataclass(frozen=True)
class Frame:
    """The three parts of a message; see the module."""

    header: bytes
    tensors: bytes
    letters: bytes


def packed(about: Mapping[str, str | int], message: Message) -> Frame:
    """Return a message as bytes.

    Args:
        about: what it is about, such as the round; the receiver gets it back.
        message: tensors of floating-point, integer, boolean or complex type.

    Raises:
        FrameError: a tensor of another type.

    Examples:
        >>> import torch
        >>> from airmoe.federated import Message
        >>> from airmoe.federated.flower.frame import packed, unpacked
        >>> about, message = unpacked(packed({"round": 2}, Message({"w": torch.ones(2)}, {"samples": 5})))
        >>> about, message.tensors, message.numbers
        ({'round': 2}, {'w': tensor([1., 1.])}, {'samples': 5})
    """
    letters = sorted(message.letters.items())
    header = {
        "about": dict(about),
        "numbers": dict(message.numbers),
        "tensors": _listed(message.tensors),
        "letters": [[client, _listed(letter)] for client, letter in letters],
    }
    return Frame(
        json.dumps(header).encode(),
        raw(message.tensors),
        b"".join(raw(letter) for _, letter in letters),
    )


def unpacked(frame: Frame, largest_bytes: int = LARGEST_MESSAGE_BYTES) -> tuple[dict[str, Any], Message]:
    """Return what `packed` was given.

    Args:
        frame: as it came.
        largest_bytes: a frame of more is refused.

    Raises:
        FrameError: it is too large, or no frame; the reason is named.
    """
    nbytes = len(frame.header) + len(frame.tensors) + len(frame.letters)
    if nbytes > largest_bytes or len(frame.header) > LARGEST_HEADER_BYTES:
        raise FrameError(f"a message of {nbytes} bytes is larger than the {largest_bytes} that are allowed")
    try:
        header = json.loads(frame.header)
        about, numbers = header["about"], header["numbers"]
        listed, letters = header["tensors"], header["letters"]
        if not all(type(key) is str and type(value) in {str, int} for key, value in about.items()):
            raise TypeError("what it is about")
        if not all(type(value) in {int, float, bool} for value in numbers.values()):
            raise TypeError("its numbers")
        tensors = _read(frame.tensors, [(name, form) for name, *form in listed])
        flat = [((client, name), form) for client, letter in letters for name, *form in letter]
        read = _read(frame.letters, flat)
        by_client: dict[int, dict[str, Tensor]] = {_client(client): {} for client, _ in letters}
        for (client, name), tensor in read.items():
            by_client[client][name] = tensor
        if not all(type(name) is str for name in (*tensors, *(name for _, name in read))):
            raise TypeError("a name")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise FrameError(f"a message that cannot be read: {error}") from None
    return about, Message(tensors, numbers, by_client)


def raw(state: State) -> bytes:
    """Return the bytes of all tensors, one after another.

    Raises:
        FrameError: a tensor of a type that no frame can hold.
    """
    for name, tensor in state.items():
        if _name_of(tensor.dtype) not in _TYPES:
            raise FrameError(f"{name} is of type {tensor.dtype}; expected one of {', '.join(_TYPES)}")
    return b"".join(_bytes_of(tensor) for tensor in state.values())


def _bytes_of(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def _listed(state: State) -> list[list[Any]]:
    return [[name, _name_of(tensor.dtype), list(tensor.shape)] for name, tensor in state.items()]


def _name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _read(data: bytes, listed: list[tuple[Any, list[Any]]]) -> dict[Any, Tensor]:
    """Return the listed tensors, in memory of their own.

    Raises:
        ValueError: the bytes are not those of the list.
    """
    tensors: dict[Any, Tensor] = {}
    view, place = memoryview(data), 0
    for key, (dtype, shape), nbytes in _measured(listed):
        if key in tensors:
            raise ValueError(f"{key} is listed twice")
        if place + nbytes > len(view):
            raise ValueError(f"{len(view)} bytes, fewer than its arrays have")
        if not nbytes:
            tensors[key] = torch.empty(shape, dtype=dtype)
            continue
        own = torch.frombuffer(bytearray(view[place : place + nbytes]), dtype=torch.uint8)
        if dtype == torch.bool and own.max() > 1:
            raise ValueError(f"{key} has a boolean that is neither")
        tensors[key] = own.view(dtype).reshape(shape)
        place += nbytes
    if place != len(view):
        raise ValueError(f"{len(view)} bytes, more than its arrays have")
    return tensors


def _measured(
    listed: list[tuple[Any, list[Any]]],
) -> Iterator[tuple[Any, tuple[torch.dtype, list[int]], int]]:
    for key, (dtype_name, shape) in listed:
        dtype = _TYPES[dtype_name]
        if len(shape) > _MOST_AXES or not all(type(size) is int and 0 <= size < 1 << 40 for size in shape):
            raise ValueError(f"the shape of {key} is {shape}")
        yield key, (dtype, shape), math.prod(shape) * dtype.itemsize


def _client(number: object) -> int:
    if type(number) is not int or number < 0:
        raise ValueError(f"a letter of client {number}")
    return number
