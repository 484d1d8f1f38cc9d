"""The wire format: a frame has a kind, a header and named arrays. Version 3, little-endian.

    magic 4s | version B | kind B | arrays B |
    request id Q | model hash 8s | layer H | expert I | expert hash 8s | remaining ms I |
    for every array:  name length B | dtype B | dimensions B | name | sides I x dimensions |
    the values of every array, in the same order

A frame is data only: nothing in it is ever executed. The shapes say how many bytes have to follow. No memory
is taken before these bytes are there.
"""

import math
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from airmoe.errors import FrameError, InvalidInputError, one_of
from airmoe.showing import OneLine

MAGIC = b"AMoE"
VERSION = 3
MAX_ARRAYS = 16
MAX_NAME = 32
MAX_DIMENSIONS = 8
MAX_BODY_BYTES = 64 << 20
MAX_HEADER_BYTES = 2 << 10
MAX_FRAME_BYTES = MAX_BODY_BYTES + MAX_HEADER_BYTES

WireType = Literal["float32", "float16", "bfloat16"]
BYTES_PER_VALUE: dict[WireType, int] = {"float32": 4, "float16": 2, "bfloat16": 2}

_CODES = {
    **{"float32": 0, "float16": 1, "bfloat16": 2, "float64": 3},
    **{"int64": 4, "int32": 5, "uint8": 6, "bool": 7},
}
_NAMES = {code: name for name, code in _CODES.items()}
_ON_WIRE = {name: np.dtype("<u2" if name == "bfloat16" else name).newbyteorder("<") for name in _CODES}

_HEAD = struct.Struct("<4sBBBQ8sHI8sI")
_ARRAY = struct.Struct("<BBB")
_NO_EXPERT = (1 << 32) - 1
NO_HASH = "0" * 16
_NAME = re.compile(rb"[a-z][a-z0-9_]*")


class Kind(IntEnum):
    """What a frame carries."""

    PAYLOADS = 1
    """To an expert: "payload" (T, ...)."""
    OUTPUTS = 2
    """Back from an expert: "output" (T, ...)."""
    ITEMS = 3
    """To a scheduler; see `airmoe.mesh.slot_messages`."""
    SCHEDULE = 4
    """Back from a scheduler."""


_KINDS = tuple(int(kind) for kind in Kind)


@dataclass(frozen=True, eq=False, repr=False)
class Frame(OneLine):
    """One message.

    Attributes:
        kind: what it carries.
        arrays: its arrays by name: float32, float64, int64, int32, uint8 or bool.
        request_id: copied from request to reply.
        model_hash: 16 hex digits.
        layer: MoE layer.
        expert: number of the expert, below 2^32 - 1; None where none is meant.
        remaining_ms: how long the sender still waits, in milliseconds; 0 in replies.
        wire_type: how the values of its float32 arrays travel.
        expert_hash: 16 hex digits, which weights the expert has; zeros where none is meant.
    """

    kind: Kind
    arrays: Mapping[str, NDArray[Any]] = field(repr=False)
    request_id: int
    model_hash: str
    layer: int
    expert: int | None
    remaining_ms: int = 0
    wire_type: WireType = "float32"
    expert_hash: str = NO_HASH

    def array(self, name: str, dtype: type[np.generic], shape: tuple[int | None, ...]) -> NDArray[Any]:
        """Return an array of this type and shape; a None in ``shape`` stands for any length.

        Raises:
            FrameError: there is none of this name, or it has another type or shape.
        """
        array = self.arrays.get(name)
        if array is None:
            raise FrameError(f"the frame has no array {name!r}; it has {', '.join(self.arrays) or 'none'}")
        if array.dtype != dtype:
            raise FrameError(f"array {name!r} is {array.dtype}; expected {np.dtype(dtype)}")
        sides = zip(array.shape, shape, strict=False)
        if array.ndim != len(shape) or any(want not in (None, side) for side, want in sides):
            expected = ", ".join("T" if side is None else str(side) for side in shape)
            expected += "," * (len(shape) == 1)
            raise FrameError(f"array {name!r} has shape {array.shape}; expected ({expected})")
        return array


def encode(frame: Frame) -> bytes:
    """Return the bytes of a frame.

    Raises:
        InvalidInputError: unknown wire type.
        FrameError: too many or too large arrays, a name or a type that cannot travel, or a header field that
            is out of range.
    """
    if frame.wire_type not in BYTES_PER_VALUE:
        raise InvalidInputError("wire_type", frame.wire_type, one_of(frame.wire_type, BYTES_PER_VALUE))
    if len(frame.arrays) > MAX_ARRAYS:
        raise FrameError(f"the frame has {len(frame.arrays)} arrays; expected at most {MAX_ARRAYS}")
    heads, bodies, length = [], [], 0
    for name, array in frame.arrays.items():
        dtype = frame.wire_type if array.dtype == np.float32 else array.dtype.name
        if dtype not in _CODES or array.dtype == np.float16:
            raise FrameError(f"array {name!r} is {array.dtype}; expected float32, or another type of a frame")
        raw_name = name.encode()
        if len(raw_name) > MAX_NAME or not _NAME.fullmatch(raw_name):
            raise FrameError(f"an array is named {name!r}; expected up to {MAX_NAME} of a-z, 0-9 and _")
        if array.ndim > MAX_DIMENSIONS:
            raise FrameError(f"array {name!r} has {array.ndim} dimensions; expected at most {MAX_DIMENSIONS}")
        length += array.size * _ON_WIRE[dtype].itemsize
        if length > MAX_BODY_BYTES:
            raise FrameError(f"the arrays have {length} bytes; expected at most {MAX_BODY_BYTES}")
        heads += [_ARRAY.pack(len(raw_name), _CODES[dtype], array.ndim), raw_name]
        heads.append(struct.pack(f"<{array.ndim}I", *array.shape))
        bodies.append(_to_wire(array, dtype))
    try:
        head = _HEAD.pack(
            MAGIC,
            VERSION,
            frame.kind,
            len(frame.arrays),
            frame.request_id,
            bytes.fromhex(frame.model_hash),
            frame.layer,
            _NO_EXPERT if frame.expert is None else frame.expert,
            bytes.fromhex(frame.expert_hash),
            frame.remaining_ms,
        )
    except (struct.error, ValueError) as error:
        raise FrameError(f"a field of the frame's header is out of range: {error}") from None
    return b"".join([head, *heads, *bodies])


class Glance(NamedTuple):
    """What the head of a frame says; `decode` reads its values, too.

    Attributes:
        request_id: of the frame.
        remaining_ms: how long its sender waits.
        items: the first side of its first array; 0 where there is none.
        fields: of its header.
        heads: name, type and shape of every array.
        values_at: where their values begin.
    """

    request_id: int
    remaining_ms: int
    items: int
    fields: tuple[Any, ...]
    heads: list[tuple[str, str, tuple[int, ...]]]
    values_at: int


def glance(data: bytes) -> Glance:
    """Return what a queue has to know of a frame, without reading its values.

    Raises:
        FrameError: as of `decode`, but for what is wrong with values.
    """
    fields, heads, at = _read_heads(data)
    shape = heads[0][2] if heads else ()
    return Glance(fields[1], fields[-1], shape[0] if shape else 0, fields, heads, at)


def decode(data: bytes, seen: Glance | None = None) -> Frame:
    """Return the frame in ``data``; its arrays are new memory, float16 and bfloat16 widened to float32.

    Args:
        data: a frame.
        seen: what `glance` saw of it, if it was looked at already.

    Raises:
        FrameError: anything about it is wrong.
    """
    seen = seen or glance(data)
    kind, request_id, model_hash, layer, expert, expert_hash, remaining_ms = seen.fields
    return Frame(
        Kind(kind),
        dict(_values(seen.heads, memoryview(data)[seen.values_at :])),
        request_id,
        model_hash.hex(),
        layer,
        None if expert == _NO_EXPERT else expert,
        remaining_ms,
        _wire_type({dtype for _, dtype, _ in seen.heads}),
        expert_hash.hex(),
    )


def _read_heads(data: bytes) -> tuple[tuple[Any, ...], list[tuple[str, str, tuple[int, ...]]], int]:
    """Return the fields of the header, name, type and shape of every array, and where values begin."""
    if len(data) < _HEAD.size:
        raise FrameError(f"the frame has {len(data)} bytes; expected at least {_HEAD.size}")
    magic, version, kind, count, *fields = _HEAD.unpack_from(data)
    if magic != MAGIC:
        raise FrameError(f"the frame begins with {magic!r}; expected {MAGIC!r}")
    if version != VERSION:
        raise FrameError(f"the frame has version {version}; expected {VERSION}")
    if kind not in _KINDS:
        raise FrameError(f"the frame is of kind {kind}; expected one of {list(_KINDS)}")
    if count > MAX_ARRAYS:
        raise FrameError(f"the frame has {count} arrays; expected at most {MAX_ARRAYS}")
    heads, at = [], _HEAD.size
    for _ in range(count):
        name, dtype, shape, at = _array_head(data, at)
        heads.append((name, dtype, shape))
    if len(names := {name for name, _, _ in heads}) < count:
        raise FrameError(f"the frame has {count} arrays of {len(names)} names; expected a name for each")
    expected = sum(math.prod(shape) * _ON_WIRE[dtype].itemsize for _, dtype, shape in heads)
    if expected > MAX_BODY_BYTES or expected != len(data) - at:
        raise FrameError(
            f"the frame has {len(data) - at} bytes of values, its shapes "
            f"{', '.join(str(shape) for _, _, shape in heads)} need {expected}; expected these to agree, at "
            f"most {MAX_BODY_BYTES}"
        )
    return (kind, *fields), heads, at


def _array_head(data: bytes, at: int) -> tuple[str, str, tuple[int, ...], int]:
    """Return name, type and shape of the array whose head begins here, and where the next one begins."""
    if len(data) < at + _ARRAY.size:
        raise FrameError(f"the frame has {len(data)} bytes; expected at least {at + _ARRAY.size}")
    length, code, dimensions = _ARRAY.unpack_from(data, at)
    at += _ARRAY.size
    if length > MAX_NAME:
        raise FrameError(f"an array's name has {length} bytes; expected at most {MAX_NAME}")
    if code not in _NAMES:
        raise FrameError(f"an array has dtype code {code}; expected one of {sorted(_NAMES)}")
    if dimensions > MAX_DIMENSIONS:
        raise FrameError(f"an array has {dimensions} dimensions; expected at most {MAX_DIMENSIONS}")
    end = at + length + 4 * dimensions
    if len(data) < end:
        raise FrameError(f"the frame has {len(data)} bytes; expected at least {end}")
    name = data[at : at + length]
    if not _NAME.fullmatch(name):
        raise FrameError(f"an array is named {name!r}; expected up to {MAX_NAME} of a-z, 0-9 and _")
    return name.decode(), _NAMES[code], struct.unpack_from(f"<{dimensions}I", data, at + length), end


def _wire_type(dtypes: set[str]) -> WireType:
    used = [name for name in BYTES_PER_VALUE if name in dtypes]
    if len(used) > 1:
        raise FrameError(f"the frame mixes {' and '.join(used)}; expected one of them for all its arrays")
    return used[0] if used else "float32"


def _values(
    heads: list[tuple[str, str, tuple[int, ...]]], body: memoryview
) -> Iterator[tuple[str, NDArray[Any]]]:
    at = 0
    for name, dtype, shape in heads:
        end = at + math.prod(shape) * _ON_WIRE[dtype].itemsize
        try:
            yield name, _from_wire(name, body[at:end], dtype).reshape(shape)
        except ValueError:  # no bytes, but sides too long for any array: (0, 2**32 - 1, 2**32 - 1)
            raise FrameError(f"array {name!r} has shape {shape}; expected one that fits in memory") from None
        at = end


def _to_wire(array: NDArray[Any], dtype: str) -> bytes:
    if dtype == "bfloat16":
        bits = np.ascontiguousarray(array, "<f4").view("<u4")
        # Round to nearest even; NaN keeps its upper half, so that it stays NaN.
        rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
        return np.where(np.isnan(array), (bits >> 16) | 0x40, rounded).astype("<u2").tobytes()
    with np.errstate(over="ignore", invalid="ignore"):  # IEEE 754: too large for float16 becomes infinite
        return np.ascontiguousarray(array, _ON_WIRE[dtype]).tobytes()


def _from_wire(name: str, body: memoryview, dtype: str) -> NDArray[Any]:
    if dtype == "bool" and (np.frombuffer(body, np.uint8) > 1).any():
        raise FrameError(f"array {name!r} of truth values holds others than 0 and 1")
    values = np.frombuffer(body, _ON_WIRE[dtype])
    if dtype == "bfloat16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32 if dtype == "float16" else values.dtype.newbyteorder("="))
