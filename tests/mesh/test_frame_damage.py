"""A damaged or hostile frame is a FrameError, never another exception, and never costs memory."""

import math
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airmoe.errors import FrameError
from airmoe.mesh.frame import MAX_BODY_BYTES, Frame, WireType, decode, encode

GOOD = encode(
    Frame(np.arange(6, dtype=np.float32).reshape(2, 3), 99, "0123456789abcdef", 0, 3, 1500, "float32")
)


def frame_bytes(
    magic: bytes = b"AMoE",
    version: int = 1,
    flags: int = 0,
    code: int = 0,
    shape: tuple[int, ...] = (),
    body_length: int | None = None,
    body: bytes = b"",
) -> bytes:
    """A frame built here, field by field, so that each can be wrong."""
    return (
        magic
        + bytes([version, flags, code, len(shape)])
        + struct.pack(f"<{len(shape)}I", *shape)
        + struct.pack("<Q8sHII", 1, b"\x01" * 8, 0, 0, 0)
        + struct.pack("<Q", len(body) if body_length is None else body_length)
        + body
    )


def decodes_or_refuses(data: bytes) -> Frame | None:
    try:
        return decode(data)
    except FrameError:
        return None


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_refused(data: bytes) -> None:
    assert decodes_or_refuses(data) is None


@settings(deadline=None)
@given(
    st.integers(0, 2),
    st.lists(st.sampled_from([0, 1, 2, 3, 255, 2**16, 2**31, 2**32 - 1]), max_size=8),
    st.binary(max_size=32),
    st.none() | st.integers(0, 2**64 - 1),
)
@example(0, [0, 2**32 - 1, 2**32 - 1], b"", None)
def test_any_header_over_any_body_decodes_to_its_shape_or_is_refused(
    code: int, shape: list[int], body: bytes, body_length: int | None
) -> None:
    frame = decodes_or_refuses(frame_bytes(code=code, shape=tuple(shape), body=body, body_length=body_length))
    if frame is not None:
        assert frame.array.shape == tuple(shape)
        assert frame.array.size * (4, 2, 2)[code] == len(body)


@pytest.mark.parametrize("length", range(len(GOOD)))
def test_a_truncated_frame_is_refused(length: int) -> None:
    with pytest.raises(FrameError):
        decode(GOOD[:length])


def test_a_frame_with_more_behind_it_is_refused() -> None:
    with pytest.raises(FrameError, match="expected these to agree"):
        decode(GOOD + b"\0")


@settings(deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_a_changed_byte_is_refused_or_changes_values_only(position: int, change: int) -> None:
    damaged = bytearray(GOOD)
    damaged[position] ^= change
    frame = decodes_or_refuses(bytes(damaged))
    if frame is not None:
        assert math.prod(frame.array.shape) == 6
        assert encode(frame) == bytes(damaged)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (frame_bytes(magic=b"HTTP", body=b"\0" * 4), "begins with b'HTTP'; expected b'AMoE'"),
        (frame_bytes(version=2, body=b"\0" * 4), "version 2; expected 1"),
        (frame_bytes(flags=2, body=b"\0" * 4), "flags 0x02"),
        (frame_bytes(code=3, body=b"\0" * 4), "dtype code 3"),
        (frame_bytes(shape=(1,) * 9, body=b"\0" * 4), "9 dimensions; expected at most 8"),
        (frame_bytes(shape=(2,), body=b"\0" * 4), r"shape \(2,\) needs 8"),
        (frame_bytes(body=b"\0" * 4, body_length=8), "header says 8"),
    ],
)
def test_the_reason_names_what_is_wrong(data: bytes, reason: str) -> None:
    with pytest.raises(FrameError, match=reason):
        decode(data)


@pytest.mark.parametrize(
    "data",
    [
        frame_bytes(shape=(2**32 - 1,) * 8, body_length=2**64 - 1),
        frame_bytes(shape=(2**30,), body_length=2**32, body=b"\0" * 4),
        frame_bytes(shape=(0, 2**32 - 1, 2**32 - 1)),
    ],
    ids=["everything huge", "4 GiB promised", "no bytes, long sides"],
)
def test_a_header_that_promises_much_allocates_nothing(data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(FrameError):
            decode(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100_000


@pytest.mark.parametrize("wire_type", ["float32", "float16"])
def test_a_body_above_the_limit_is_refused(wire_type: WireType) -> None:
    size = {"float32": 4, "float16": 2}[wire_type]
    code = {"float32": 0, "float16": 1}[wire_type]
    values = MAX_BODY_BYTES // size + 1
    with pytest.raises(FrameError, match=f"at most {MAX_BODY_BYTES}"):
        decode(frame_bytes(code=code, shape=(values,), body=bytes(values * size)))
