"""The wire format: one array and what it is for, little-endian.

    magic 4s | version B | flags B | dtype B | ndim B | shape I x ndim |
    request id Q | model hash 8s | layer H | expert I | remaining ms I | body length Q | body

A frame is data only: nothing in it is ever executed.
"""

import math
import struct
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from airmoe.errors import FrameError, InvalidInputError

MAGIC = b"AMoE"
VERSION = 1
REPLY = 1
MAX_DIMENSIONS = 8
MAX_BODY_BYTES = 64 << 20
MAX_FRAME_BYTES = MAX_BODY_BYTES + 256

WireType = Literal["float32", "float16", "bfloat16"]
_CODES: dict[WireType, int] = {"float32": 0, "float16": 1, "bfloat16": 2}
_NAMES = {code: name for name, code in _CODES.items()}
BYTES_PER_VALUE: dict[WireType, int] = {"float32": 4, "float16": 2, "bfloat16": 2}

_HEAD = struct.Struct("<4sBBBB")
_TAIL = struct.Struct("<Q8sHIIQ")


@dataclass(frozen=True, eq=False)
class Frame:
    """One message.

    Attributes:
        array: float32, the payload or the outputs, whatever the wire type.
        request_id: copied from request to reply.
        model_hash: 16 hex digits.
        layer: MoE layer.
        expert: number of the expert.
        remaining_ms: how long the sender still waits, in milliseconds; 0 in replies.
        wire_type: how the values travel.
        is_reply: True for outputs.
    """

    array: NDArray[np.float32] = field(repr=False)
    request_id: int
    model_hash: str
    layer: int
    expert: int
    remaining_ms: int
    wire_type: WireType = "float32"
    is_reply: bool = False


def encode(frame: Frame) -> bytes:
    """Return the bytes of a frame.

    Raises:
        InvalidInputError: unknown wire type.
        FrameError: the array is too large or has too many dimensions, or a header field is out of range.
    """
    if frame.wire_type not in _CODES:
        raise InvalidInputError("wire_type", frame.wire_type, f"one of {', '.join(_CODES)}")
    body = _to_wire(frame.array, frame.wire_type)
    if len(body) > MAX_BODY_BYTES:
        raise FrameError(f"the body has {len(body)} bytes; expected at most {MAX_BODY_BYTES}")
    if frame.array.ndim > MAX_DIMENSIONS:
        raise FrameError(f"the array has {frame.array.ndim} dimensions; expected at most {MAX_DIMENSIONS}")
    try:
        head = _HEAD.pack(MAGIC, VERSION, REPLY * frame.is_reply, _CODES[frame.wire_type], frame.array.ndim)
        shape = struct.pack(f"<{frame.array.ndim}I", *frame.array.shape)
        model_hash = bytes.fromhex(frame.model_hash)
        tail = _TAIL.pack(
            frame.request_id, model_hash, frame.layer, frame.expert, frame.remaining_ms, len(body)
        )
    except (struct.error, ValueError) as error:
        raise FrameError(f"a field of the frame's header is out of range: {error}") from None
    return head + shape + tail + body


def decode(data: bytes) -> Frame:
    """Return the frame in ``data``; the array is new memory, always float32.

    Raises:
        FrameError: anything about it is wrong; no memory is taken before shape and length agree.
    """
    if len(data) < _HEAD.size:
        raise FrameError(f"the frame has {len(data)} bytes; expected at least {_HEAD.size}")
    magic, version, flags, code, dimensions = _HEAD.unpack_from(data)
    if magic != MAGIC:
        raise FrameError(f"the frame begins with {magic!r}; expected {MAGIC!r}")
    if version != VERSION:
        raise FrameError(f"the frame has version {version}; expected {VERSION}")
    if flags & ~REPLY:
        raise FrameError(f"the frame has flags {flags:#04x}; expected 0x00 or 0x01")
    if code not in _NAMES:
        raise FrameError(f"the frame has dtype code {code}; expected one of {sorted(_NAMES)}")
    if dimensions > MAX_DIMENSIONS:
        raise FrameError(f"the frame has {dimensions} dimensions; expected at most {MAX_DIMENSIONS}")
    start = _HEAD.size + 4 * dimensions
    if len(data) < start + _TAIL.size:
        raise FrameError(f"the frame has {len(data)} bytes; expected at least {start + _TAIL.size}")
    shape = struct.unpack_from(f"<{dimensions}I", data, _HEAD.size)
    request_id, model_hash, layer, expert, remaining_ms, length = _TAIL.unpack_from(data, start)
    wire_type = _NAMES[code]
    body = memoryview(data)[start + _TAIL.size :]
    expected = math.prod(shape) * BYTES_PER_VALUE[wire_type]
    if length > MAX_BODY_BYTES or not length == len(body) == expected:
        raise FrameError(
            f"the frame's body has {len(body)} bytes, its header says {length}, its shape {shape} needs "
            f"{expected}; expected these to agree, at most {MAX_BODY_BYTES}"
        )
    try:
        array = _from_wire(body, wire_type).reshape(shape)
    except ValueError:  # no bytes, but sides too long for any array: (0, 2**32 - 1, 2**32 - 1)
        raise FrameError(f"the frame has shape {shape}; expected one that fits in memory") from None
    return Frame(
        array,
        request_id,
        model_hash.hex(),
        layer,
        expert,
        remaining_ms,
        wire_type,
        bool(flags & REPLY),
    )


def _to_wire(array: NDArray[np.float32], wire_type: WireType) -> bytes:
    if wire_type == "bfloat16":
        bits = np.ascontiguousarray(array, "<f4").view("<u4")
        # Round to nearest even; NaN keeps its upper half, so that it stays NaN.
        rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
        return np.where(np.isnan(array), (bits >> 16) | 0x40, rounded).astype("<u2").tobytes()
    with np.errstate(over="ignore", invalid="ignore"):  # IEEE 754: too large for float16 becomes infinite
        return np.ascontiguousarray(array, "<f4" if wire_type == "float32" else "<f2").tobytes()


def _from_wire(body: memoryview, wire_type: WireType) -> NDArray[np.float32]:
    if wire_type == "bfloat16":
        return (np.frombuffer(body, "<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(body, "<f4" if wire_type == "float32" else "<f2").astype(np.float32)
