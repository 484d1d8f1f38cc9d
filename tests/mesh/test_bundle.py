"""Several frames in one message."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airmoe.errors import FrameError
from airmoe.mesh.bundle import MOST_FRAMES, bundled, bundled_size, unbundled

FRAMES = st.lists(st.binary(min_size=1, max_size=40).map(lambda data: b"AMoE" + data), min_size=1, max_size=9)


@given(FRAMES)
def test_frames_come_out_as_they_went_in(frames: list[bytes]) -> None:
    data = bundled(frames)
    assert unbundled(data) == frames
    assert len(data) == bundled_size([len(frame) for frame in frames])


def test_a_frame_alone_travels_as_it_is() -> None:
    assert bundled([b"AMoE and so on"]) == b"AMoE and so on"


@given(FRAMES, st.integers(1, 30))
def test_what_is_cut_short_or_too_long_is_refused(frames: list[bytes], missing: int) -> None:
    data = bundled([*frames, b"AMoE"])
    for wrong in (data[:-missing], data + b"x" * missing):
        if wrong.startswith(b"AMoB"):
            with pytest.raises(FrameError):
                unbundled(wrong)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"AMoB", "has 4 bytes; expected at least 6"),
        (b"AMoB\0\0", "has 0 frames; expected 2 to 1024"),
        (b"AMoB\1\0" + bytes(8), "has 1 frames; expected 2 to 1024"),
        (struct.pack("<4sH", b"AMoB", MOST_FRAMES + 1), "has 1025 frames"),
        (b"AMoB\2\0" + bytes(15), "has 21 bytes; expected at least 22"),
        (struct.pack("<4sHQQ", b"AMoB", 2, (1 << 64) - 1, 2), "its frames need"),
    ],
)
def test_a_wrong_head_is_refused(data: bytes, told: str) -> None:
    with pytest.raises(FrameError, match=told):
        unbundled(data)


@given(st.binary(max_size=60))
def test_anything_is_frames_or_refused(data: bytes) -> None:
    for message in (data, b"AMoB" + data):
        try:
            frames = unbundled(message)
        except FrameError:
            continue
        assert b"".join(frames) == message[-sum(map(len, frames)) :] or not b"".join(frames)
