"""Frames as the content of Flower's messages, which know nothing but bytes of them."""

from __future__ import annotations

from typing import Any

from flwr.app import Array, ArrayRecord, RecordDict

from airmoe.errors import FrameError
from airmoe.federated.flower.frame import Frame

_RECORD, _FORM = "airmoe", "airmoe frame 1"


def recorded(frame: Frame) -> RecordDict:
    """Return a frame as the content of a Flower message."""
    parts = {"header": frame.header, "tensors": frame.tensors, "letters": frame.letters}
    arrays = {
        name: Array(dtype="uint8", shape=(len(data),), stype=_FORM, data=data) for name, data in parts.items()
    }
    return RecordDict({_RECORD: ArrayRecord(arrays)})


def framed(content: RecordDict) -> Frame:
    """Return the frame that a Flower message brought.

    Raises:
        FrameError: it brought something else.
    """
    arrays: Any = content.get(_RECORD)
    if not isinstance(arrays, ArrayRecord) or set(arrays) != {"header", "tensors", "letters"}:
        raise FrameError("a Flower message that holds no frame of airmoe")
    if any(array.stype != _FORM for array in arrays.values()):
        raise FrameError("a Flower message with a frame of another version of airmoe")
    return Frame(arrays["header"].data, arrays["tensors"].data, arrays["letters"].data)
