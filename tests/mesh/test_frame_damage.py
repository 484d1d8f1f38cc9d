"""A damaged or hostile frame is a FrameError, never another exception, and never costs memory."""

import math
import struct
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airmoe.errors import FrameError
from airmoe.mesh.frame import MAX_ARRAYS, MAX_BODY_BYTES, Frame, Kind, decode, encode
from airmoe.randomness import stream

GOOD = encode(
    Frame(
        Kind.PAYLOADS,
        {"payload": np.arange(6, dtype=np.float32).reshape(2, 3), "kept": np.array([True, False])},
        99,
        "0123456789abcdef",
        0,
        3,
        1500,
    )
)
BYTES = (4, 2, 2, 8, 8, 4, 1, 1)
"""Of a value of each dtype code."""


def array_head(name: bytes = b"payload", code: int = 0, shape: tuple[int, ...] = ()) -> bytes:
    """The head of an array, field by field."""
    return bytes([len(name), code, len(shape)]) + name + struct.pack(f"<{len(shape)}I", *shape)


def frame_bytes(
    *heads: bytes, magic: bytes = b"AMoE", version: int = 3, kind: int = 1, count: int | None = None
) -> bytes:
    """A frame built here, field by field, so that each can be wrong; what follows it is the values."""
    count = len(heads) if count is None else count
    begin = (
        magic + bytes([version, kind, count]) + struct.pack("<Q8sHI8sI", 1, b"\x01" * 8, 0, 0, bytes(8), 0)
    )
    return begin + b"".join(heads)


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
    st.lists(
        st.tuples(
            st.integers(0, 7),
            st.lists(st.sampled_from([0, 1, 2, 3, 255, 2**16, 2**31, 2**32 - 1]), max_size=8),
        ),
        max_size=3,
    ),
    st.binary(max_size=32),
)
@example([(0, [0, 2**32 - 1, 2**32 - 1])], b"")
def test_any_header_over_any_body_decodes_to_its_shapes_or_is_refused(
    arrays: list[tuple[int, list[int]]], body: bytes
) -> None:
    heads = [
        array_head(f"a{number}".encode(), code, tuple(shape)) for number, (code, shape) in enumerate(arrays)
    ]
    frame = decodes_or_refuses(frame_bytes(*heads) + body)
    if frame is not None:
        assert [array.shape for array in frame.arrays.values()] == [tuple(shape) for _, shape in arrays]
        assert sum(math.prod(shape) * BYTES[code] for code, shape in arrays) == len(body)


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
        assert sum(array.size for array in frame.arrays.values()) == 8
        assert encode(frame) == bytes(damaged)


def mutated(frames: int) -> Iterator[bytes]:
    """Copies of the good frame with up to five bytes changed; every tenth is cut off somewhere, too."""
    random = stream(0, "mutated frames")
    for positions, values, end in zip(
        random.integers(0, len(GOOD), (frames, 5)).tolist(),
        random.integers(0, 256, (frames, 5)).tolist(),
        random.integers(0, 10 * len(GOOD), frames).tolist(),
        strict=True,
    ):
        damaged = bytearray(GOOD)
        for position, value in zip(positions, values, strict=True):
            damaged[position] = value
        yield bytes(damaged[:end])


def test_100_000_mutated_frames_end_as_a_frame_or_a_refusal() -> None:
    for data in mutated(100_000):
        decodes_or_refuses(data)


def test_mutated_frames_cost_no_memory() -> None:
    frames = list(mutated(3_000))
    tracemalloc.start()
    try:
        for data in frames:
            decodes_or_refuses(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100_000


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (frame_bytes(magic=b"HTTP"), "begins with b'HTTP'; expected b'AMoE'"),
        (frame_bytes(version=1), "version 1; expected 3"),
        (frame_bytes(kind=0), r"kind 0; expected one of \[1, 2, 3, 4\]"),
        (frame_bytes(count=MAX_ARRAYS + 1), "17 arrays; expected at most 16"),
        (frame_bytes(count=1), "41 bytes; expected at least 44"),
        (frame_bytes(array_head(code=8)), "dtype code 8"),
        (frame_bytes(array_head(shape=(1,) * 9)), "9 dimensions; expected at most 8"),
        (frame_bytes(array_head(b"x" * 33)), "name has 33 bytes; expected at most 32"),
        (frame_bytes(array_head(b"\xff")), r"named b'\\xff'"),
        (frame_bytes(array_head(), array_head()) + bytes(8), "2 arrays of 1 names"),
        (frame_bytes(array_head(shape=(2,))) + bytes(4), r"4 bytes of values, its shapes \(2,\) need 8"),
        (frame_bytes(array_head(code=7, shape=(2,))) + b"\x01\x02", "holds others than 0 and 1"),
        (frame_bytes(array_head(b"a"), array_head(b"b", 1)) + bytes(6), "mixes float32 and float16"),
    ],
)
def test_the_reason_names_what_is_wrong(data: bytes, reason: str) -> None:
    with pytest.raises(FrameError, match=reason):
        decode(data)


@pytest.mark.parametrize(
    "data",
    [
        frame_bytes(array_head(shape=(2**32 - 1,) * 8)),
        frame_bytes(array_head(shape=(2**30,))) + bytes(4),
        frame_bytes(array_head(shape=(0, 2**32 - 1, 2**32 - 1))),
        frame_bytes(*[array_head(b"a%d" % n, 3, (2**32 - 1,) * 8) for n in range(16)]),
    ],
    ids=["everything huge", "4 GiB promised", "no bytes, long sides", "16 times"],
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


@pytest.mark.parametrize(("code", "size"), [(0, 4), (1, 2)], ids=["float32", "float16"])
def test_a_body_above_the_limit_is_refused(code: int, size: int) -> None:
    values = MAX_BODY_BYTES // size + 1
    with pytest.raises(FrameError, match=f"at most {MAX_BODY_BYTES}"):
        decode(frame_bytes(array_head(code=code, shape=(values,))) + bytes(values * size))
