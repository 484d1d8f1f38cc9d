"""Several frames in one message: what goes to the experts of one node, and what comes back from them.

    magic 4s | frames H | length Q x frames | the frames, one after another

A single frame travels as it is. Little-endian.
"""

import struct
from collections.abc import Sequence

from airmoe.errors import FrameError
from airmoe.mesh.frame import MAX_FRAME_BYTES

MAGIC = b"AMoB"
MOST_FRAMES = 1024
_HEAD = struct.Struct("<4sH")
_LENGTH_BYTES = 8


def bundled(frames: Sequence[bytes]) -> bytes:
    """Return frames as one message, at least one and at most `MOST_FRAMES`."""
    if len(frames) == 1:
        return frames[0]
    lengths = struct.pack(f"<{len(frames)}Q", *map(len, frames))
    return b"".join([_HEAD.pack(MAGIC, len(frames)), lengths, *frames])


def bundled_size(sizes: Sequence[int]) -> int:
    """Return how many bytes frames of these sizes are as one message."""
    return sum(sizes) if len(sizes) == 1 else _HEAD.size + _LENGTH_BYTES * len(sizes) + sum(sizes)


def unbundled(data: bytes) -> list[bytes]:
    """Return the frames of a message; whether they are any is for `airmoe.mesh.frame.decode` to say.

    Raises:
        FrameError: too many or too few, or lengths that do not add up to the message's.
    """
    if not data.startswith(MAGIC):
        return [data]
    if len(data) < _HEAD.size:
        raise FrameError(f"the message has {len(data)} bytes; expected at least {_HEAD.size}")
    _, count = _HEAD.unpack_from(data)
    if not 2 <= count <= MOST_FRAMES:
        raise FrameError(f"the message has {count} frames; expected 2 to {MOST_FRAMES}")
    begin = _HEAD.size + _LENGTH_BYTES * count
    if len(data) < begin:
        raise FrameError(f"the message has {len(data)} bytes; expected at least {begin}")
    lengths = struct.unpack_from(f"<{count}Q", data, _HEAD.size)
    if begin + sum(lengths) != len(data) or len(data) > MAX_FRAME_BYTES:
        raise FrameError(
            f"the message has {len(data)} bytes, its frames need {begin + sum(lengths)}; expected these to "
            f"agree, at most {MAX_FRAME_BYTES}"
        )
    frames = []
    for length in lengths:
        frames.append(data[begin : begin + length])
        begin += length
    return frames
