"""The scheduler role of a node: it collects the requests of a slot and decides once for all of them.

Shape suffixes: T items, N nodes.
"""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import zenoh

from airmoe.errors import AirmoeError, FrameError, RefusedError
from airmoe.mesh.frame import Frame, Kind, decode, encode
from airmoe.mesh.keys import scheduler_key
from airmoe.mesh.log import about, mesh_log
from airmoe.mesh.queries import anybody, refuse, reply_to, serve, who_asks
from airmoe.mesh.slot_decision import SlotDecision
from airmoe.mesh.slot_messages import SlotReply, SlotRequest
from airmoe.mesh.slot_queue import MAX_SLOT_BYTES, SlotQueue, Waiting

CLOSING_S = 5.0
"""How long closing waits for the decision at hand: a user's own policy may never return."""


@dataclass(frozen=True, eq=False)
class _Asked:
    """A request that passed every check."""

    query: zenoh.Query
    frame: Frame
    items: SlotRequest


class Scheduler:
    """Collects the requests of a slot, decides once for all of them, and tells each source its share.

    A slot closes ``slot_s`` after its first request came, or when the slot before it is decided, whichever
    is later. A request that is malformed, too late for its sender or too much is refused alone, with the
    reason. A scheduler serves as soon as it is made.

    Args:
        session: an open Zenoh session; it stays open.
        decision: decides on a slot.
        slot_s: seconds that a slot collects; keep it below half of a query's deadline, or clients give up.
        admits: whether somebody of this name belongs to the mesh.

    Raises:
        zenoh.ZError: the session is closed.
    """

    def __init__(
        self,
        session: zenoh.Session,
        decision: SlotDecision,
        slot_s: float,
        admits: Callable[[str], bool] = anybody,
    ) -> None:
        self._decision = decision
        manifest, layer = decision.manifest, decision.layer.layer
        self._place = manifest.model_hash, layer
        self._key = scheduler_key(manifest.mesh, manifest.model_hash, layer, manifest.node)
        self._changed = threading.Condition()
        self._queue = SlotQueue[zenoh.Query](slot_s)
        self._closing = False
        worker = threading.Thread(target=self._work, name="airmoe scheduler", daemon=True)
        with ExitStack() as open_:  # withdraws what was declared where a later step fails
            worker.start()
            open_.callback(worker.join, CLOSING_S)
            open_.callback(self._stop)
            open_.callback(serve(session, self._key, self._accept, admits).undeclare)
            open_.callback(session.liveliness().declare_token(self._key).undeclare)
            self._open = open_.pop_all()

    def close(self) -> None:
        """Stop; requests already accepted are answered first. Closing twice does no harm."""
        self._open.close()

    def _stop(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def _accept(self, query: zenoh.Query, asker: str) -> None:
        size = 0 if query.payload is None else len(query.payload)
        if query.attachment is not None or not 0 < size <= MAX_SLOT_BYTES:
            refuse(
                query,
                f"the request has {size} bytes; expected a frame of at most {MAX_SLOT_BYTES} bytes alone",
            )
            return
        with self._changed:
            closing = self._closing
            accepted = not closing and self._queue.add(Waiting(query, size, time.monotonic()))
            self._changed.notify_all()
        if closing:
            refuse(query, "the scheduler is closing")
        elif not accepted:
            refuse(query, "overloaded: too many requests are waiting")

    def _work(self) -> None:
        while slot := self._collect():
            try:
                self._answer(slot)
            finally:
                with self._changed:
                    self._queue.decided(slot)

    def _collect(self) -> list[Waiting[zenoh.Query]]:
        """Return the requests of the next slot; once the scheduler closes, those that wait, then none."""
        with self._changed:
            while not self._closing:
                left_s = self._queue.closes_in_s(time.monotonic())
                if left_s == 0:
                    break
                self._changed.wait(left_s)
            return self._queue.take()

    def _answer(self, slot: list[Waiting[zenoh.Query]]) -> None:
        asked: list[_Asked] = []
        for waiting in slot:
            try:
                asked.append(self._read(waiting))
            except Exception as error:  # one bad request must not spoil the slot
                _refuse_for(error, waiting.item)
        if not asked:
            return
        try:
            replies = self._decision.decide([one.items for one in asked])
        except Exception as error:  # a policy of the user's own may do anything
            for one in asked:
                _refuse_for(error, one.query)
            return
        for one, reply in zip(asked, replies, strict=True):
            self._reply(one, reply)

    def _read(self, waiting: Waiting[zenoh.Query]) -> _Asked:
        assert waiting.item.payload is not None  # see _accept
        frame = decode(waiting.item.payload.to_bytes())
        waited_s = time.monotonic() - waiting.arrived_s
        if waited_s * 1000 > frame.remaining_ms:
            raise RefusedError(f"too late: waited {waited_s:.3f} s of {frame.remaining_ms} ms")
        if (asked := (frame.model_hash, frame.layer)) != self._place:
            raise RefusedError(
                f"the request is for (model, layer) {asked}; this scheduler serves {self._place}"
            )
        if frame.kind != Kind.ITEMS:
            raise FrameError(f"the frame is {frame.kind.name}; expected {Kind.ITEMS.name}")
        return _Asked(waiting.item, frame, self._decision.read(frame))

    def _reply(self, one: _Asked, reply: SlotReply) -> None:
        frame = one.frame
        try:
            arrays = self._decision.arrays_of(reply)
            answer = Frame(Kind.SCHEDULE, arrays, frame.request_id, frame.model_hash, frame.layer, None)
            reply_to(one.query, encode(answer))
        except Exception as error:
            _refuse_for(error, one.query)


def _refuse_for(error: Exception, query: zenoh.Query) -> None:
    """Refuse with what is wrong; an unforeseen error is logged in full, and the service goes on."""
    if isinstance(error, AirmoeError | zenoh.ZError):
        refuse(query, str(error))
    else:
        peer = who_asks(query)
        mesh_log.error("a request of %s failed", peer, exc_info=error, extra=about(peer))
        refuse(query, f"internal error: {type(error).__name__}")
