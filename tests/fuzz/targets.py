"""What is fuzzed: each target takes any bytes, and raises where the code under it breaks its word.

A refusal that the code's docstring names is no fault. What is let through is checked by an oracle.
"""

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from airmoe.errors import FrameError, RefusedError, RunFolderError
from airmoe.manifest import MANIFEST, Manifest, read_manifest
from airmoe.mesh.bundle import bundled, unbundled
from airmoe.mesh.frame import NO_HASH, Frame, Kind, decode, encode, glance
from airmoe.mesh.replies import LARGEST, NARROW_ROUNDING, read_output
from airmoe.mesh.slot_messages import SlotReply, read_reply, read_request, reply_arrays
from tests.fuzz.session import as_session, messages, sessions
from tests.fuzz.small_mesh import (
    CLASSES,
    EXPERTS,
    NODES,
    items,
    manifest_of_node_0,
    outputs,
    payloads,
    slot_request,
)

Target = Callable[[bytes], None]

MOST_BITS = 3 * 32 + 32
SUBCARRIERS = 2


def fuzz_frame(data: bytes) -> None:
    """A frame is refused, or all that reads it agrees, and it comes back from the wire as it was."""
    with suppress(FrameError):
        parts = unbundled(data)
        assert len(parts) == 1 or bundled(parts) == data
    try:
        seen = glance(data)
        frame = decode(data, seen)
    except FrameError:
        return
    first = next(iter(frame.arrays.values()), np.empty(0))
    assert seen[:3] == (frame.request_id, frame.remaining_ms, first.shape[0] if first.shape else 0)
    assert sum(array.nbytes for array in frame.arrays.values()) <= 4 * len(data)
    assert len(encode(frame)) == len(data)
    again = decode(encode(frame))
    for name, array in frame.arrays.items():
        other = again.arrays[name]
        assert (array.dtype, array.shape) == (other.dtype, other.shape)
        assert np.array_equal(array, other, equal_nan=array.dtype.kind == "f")
    assert replace(again, arrays={}).__dict__ == replace(frame, arrays={}).__dict__


def fuzz_reply(data: bytes) -> None:
    """A reply is refused, or it has the shape, the sums and the sizes of an honest one."""
    kind = ("probabilities", "logits", "hidden states")[data[0] % 3] if data else "logits"
    spec = manifest_of_node_0(kind).layer(1)  # type: ignore[arg-type]
    try:
        output_IC = read_output(data[1:], payloads(2), spec)
    except FrameError:
        return
    assert (output_IC.shape, output_IC.dtype) == ((2, CLASSES), np.float32)
    values = [[float(value) for value in row] for row in output_IC]
    assert all(math.isfinite(value) for row in values for value in row)
    if kind == "probabilities":
        assert all(value >= 0 for row in values for value in row)
        assert all(abs(math.fsum(row) - 1) <= NARROW_ROUNDING + 1e-6 for row in values)
    else:
        assert all(abs(value) <= LARGEST[kind] for row in values for value in row)


def fuzz_slot(data: bytes) -> None:
    """A message of scheduling is refused, or within the bounds that its docstring gives."""
    asked = slot_request()
    try:
        frame = decode(data)
    except FrameError:
        return
    with suppress(FrameError, RefusedError):
        request = read_request("first", frame, [[0], [1]], NODES, MOST_BITS)
        rows = len(request.bits_T)
        assert rows > 0
        assert request.scores_TE.shape == request.reachable_TE.shape == (rows, EXPERTS)
        assert request.node_E.tolist() == [0, 1]
        assert 0 <= request.source < NODES
        assert all(1 <= bits <= MOST_BITS for bits in request.bits_T)
        assert all(0 <= score < math.inf for score in request.scores_TE.flat)
    with suppress(FrameError, RefusedError):
        reply = read_reply("first", frame, asked, NODES, SUBCARRIERS)
        used = [reply.subcarrier_NN[i, j] for i in range(NODES) for j in range(NODES) if i != j]
        used = [each for each in used if each >= 0]
        assert len(set(used)) == len(used)
        assert all(-1 <= each < SUBCARRIERS for each in reply.subcarrier_NN.flat)
        assert reply.mask_TE.shape == (2, EXPERTS)


@contextmanager
def manifests() -> Iterator[Target]:
    """A manifest is refused as damaged, or it comes back from JSON as it was."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)

        def fuzz_manifest(data: bytes) -> None:
            (place / MANIFEST).write_bytes(data)
            try:
                manifest = read_manifest(place)
            except RunFolderError:
                return
            assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest

        yield fuzz_manifest


TARGETS: Mapping[str, Callable[[], AbstractContextManager[Target]]] = {
    "frame": lambda: nullcontext(fuzz_frame),
    "reply": lambda: nullcontext(fuzz_reply),
    "slot": lambda: nullcontext(fuzz_slot),
    "manifest": manifests,
    "session": sessions,
}
"""Each opens what it needs and gives the function that is fuzzed."""


def seeds(target: str) -> list[bytes]:
    """Return good inputs of a target, from which fuzzing begins."""
    asked, reply = items(slot_request()), outputs()
    mask_TE, feasible_T = np.ones((2, EXPERTS), np.bool_), np.ones(2, np.bool_)
    decided = reply_arrays(
        "first", SlotReply(0, mask_TE, feasible_T, np.array([[-1, 0], [1, -1]])), SUBCARRIERS
    )
    schedule = replace(asked, kind=Kind.SCHEDULE, arrays=decided)
    every_type = {name: np.zeros(2, name) for name in ("float64", "int64", "int32", "uint8", "bool")}
    if target == "frame":
        narrow = [replace(payloads(), wire_type=name) for name in ("float16", "bfloat16")]
        others = Frame(Kind.OUTPUTS, every_type, 1, NO_HASH, 1, None)
        return [encode(each) for each in (payloads(), reply, asked, schedule, *narrow, others)]
    if target == "reply":
        return [bytes([kind]) + encode(reply) for kind in range(3)]
    if target == "slot":
        return [encode(asked), encode(schedule)]
    if target == "manifest":
        return [manifest_of_node_0().model_dump_json().encode()]
    assert target == "session"
    return [as_session(message) for message in messages()]
