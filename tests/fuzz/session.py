"""Whole sessions: bytes that reach a real node through real Zenoh on loopback, and what must come back.

A session is messages in a row: how it is sent (1 byte), its length (2 bytes, little-endian), its bytes.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import zenoh

from airmoe.mesh import Node, close_session, open_session
from airmoe.mesh.frame import decode, encode
from airmoe.mesh.keys import asked_key, expert_key, scheduler_key
from tests.fuzz.small_mesh import (
    FirstReachable,
    items,
    make_node_0,
    manifest_of_node_0,
    payloads,
    slot_request,
)
from tests.mesh.ports import free_address

MOST_MESSAGES = 8
WAIT_S = 20.0
"""No answer takes that long; a request without one is a fault."""

TO_EXPERT, TO_SCHEDULER, WITH_ATTACHMENT, WITHDRAWN = range(4)


class Message(NamedTuple):
    how: int
    data: bytes


def as_session(*sent: Message) -> bytes:
    return b"".join(bytes([how]) + len(data).to_bytes(2, "little") + data for how, data in sent)


def messages() -> list[Message]:
    """One good message of each kind."""
    request = payloads()
    return [
        Message(TO_EXPERT, encode(request)),
        Message(TO_SCHEDULER, encode(items(slot_request()))),
        Message(WITH_ATTACHMENT, encode(request)),
        Message(WITHDRAWN, request.request_id.to_bytes(8, "little")),
    ]


def read_session(data: bytes) -> list[Message]:
    sent, at = [], 0
    while at + 3 <= len(data) and len(sent) < MOST_MESSAGES:
        end = at + 3 + int.from_bytes(data[at + 1 : at + 3], "little")
        sent.append(Message(data[at] % 4, data[at + 3 : end]))
        at = end
    return sent


@contextmanager
def sessions() -> Iterator[Callable[[bytes], None]]:
    """Every request gets one answer, no internal error, and an honest one after it is answered as ever."""
    manifest = manifest_of_node_0()
    place = manifest.mesh, manifest.model_hash, 1
    expert, scheduler = expert_key(*place, 0, 0), scheduler_key(*place, 0)
    address, honest = free_address(), payloads(request_id=1 << 60)
    with tempfile.TemporaryDirectory() as folder:
        make_node_0(Path(folder))
        with Node(folder, address, schedule=FirstReachable(), slot_ms=0.0):
            session = open_session(connect=[address])
            try:
                _wait_for(session, [expert, scheduler])
                expected = _answer(session, expert, encode(honest))

                def fuzz_session(data: bytes) -> None:
                    sent = read_session(data)
                    pending = [_send(session, expert, scheduler, message) for message in sent]
                    withdraws = any(message.how == WITHDRAWN for message in sent)
                    for replies in pending:
                        _check([] if replies is None else list(replies), replies is None or withdraws)
                    assert _answer(session, expert, encode(honest)) == expected

                yield fuzz_session
            finally:
                close_session(session)


Pending = zenoh.handlers.Handler[zenoh.Reply] | None


def _send(session: zenoh.Session, expert: str, scheduler: str, message: Message) -> Pending:
    how, data = message
    if how == WITHDRAWN:
        session.put(asked_key(expert, "fuzzer"), data)
        return None
    return session.get(
        asked_key(scheduler if how == TO_SCHEDULER else expert, "fuzzer"),
        payload=data or None,
        attachment=b"more" if how == WITH_ATTACHMENT else None,
        timeout=WAIT_S,
        consolidation=zenoh.ConsolidationMode.NONE,
        congestion_control=zenoh.CongestionControl.BLOCK,
    )


def _check(replies: list[zenoh.Reply], may_be_none: bool) -> None:
    assert len(replies) == 1 or (not replies and may_be_none), f"{len(replies)} answers"
    for reply in replies:
        if reply.err is not None:
            reason = reply.err.payload.to_bytes().decode()
            assert not reason.startswith("internal error"), reason
            assert reason != "Timeout", "no answer"


def _answer(session: zenoh.Session, key: str, frame: bytes) -> bytes:
    """Return the outputs that an honest asker gets."""
    (reply,) = session.get(asked_key(key, "honest"), payload=frame, timeout=WAIT_S)
    assert reply.ok is not None, reply.err and reply.err.payload.to_bytes()
    output_TC = decode(reply.ok.payload.to_bytes()).arrays["output"]
    np.testing.assert_allclose(output_TC.sum(axis=1), 1, atol=1e-5)
    return output_TC.tobytes()


def _wait_for(session: zenoh.Session, keys: list[str]) -> None:
    for key in keys:
        subscriber = session.liveliness().declare_subscriber(key, history=True)
        subscriber.recv()
        subscriber.undeclare()
