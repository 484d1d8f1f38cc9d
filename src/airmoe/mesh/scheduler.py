"""The scheduler role of a node: one decision of a joint policy for the items of all sources of a slot.

Shape suffixes: T items, E experts, N nodes.
"""

import logging
import threading
import time
from dataclasses import dataclass, replace

import numpy as np
import zenoh
from numpy.typing import NDArray

from airmoe.dispatch import NORM_BITS
from airmoe.errors import AirmoeError, FrameError, InvalidInputError, RefusedError
from airmoe.links import Links
from airmoe.manifest import Manifest
from airmoe.mesh.frame import Frame, decode, encode
from airmoe.mesh.keys import scheduler_key
from airmoe.mesh.queries import refuse
from airmoe.mesh.slot_messages import SlotReply, SlotRequest, pack_reply, refuse_shared, unpack_request
from airmoe.scheduling import Cost, Policy, Routing, Slot

_log = logging.getLogger("airmoe.mesh")

LONGEST_SLOT_MS = 500
"""A client waits for half of its query's time, 1 s by default; longer slots would come too late."""

CLOSING_S = 5.0
"""A policy of the user's own may never return."""

MAX_SLOT_REQUESTS = 256
MAX_SLOT_BYTES = 1 << 20
"""What waits at a scheduler is one slot: its replies fit into the buffers to clients that stopped reading."""


@dataclass(frozen=True, eq=False)
class _Waiting:
    query: zenoh.Query
    size: int
    arrived_s: float


@dataclass(frozen=True, eq=False)
class _Asked:
    """A request that passed every check."""

    query: zenoh.Query
    frame: Frame
    items: SlotRequest


class Scheduler:
    """Collects the requests of a slot, decides once for all of them, and tells each source its share.

    A slot closes ``slot_ms`` after its first request came, or when the slot before it is decided, whichever
    is later. A request that is malformed, too late for its sender or too much is refused alone, with the
    reason.

    Args:
        policy: a joint policy.
        manifest: of the node that offers to schedule.
        links: the simulated links, on whose subcarriers it decides as they are observed.
        slot_ms: how long a slot collects, 0 to 500; less than half of a query's deadline, or none is decided.

    Raises:
        InvalidInputError: the policy is not joint or cannot decide on these links.
    """

    def __init__(self, policy: Policy, manifest: Manifest, links: Links, slot_ms: float = 5.0) -> None:
        if not policy.joint:
            raise InvalidInputError(
                "schedule", policy.name, "a joint policy, for example jesa:0.5:2; others decide at the source"
            )
        self._slot_s = slot_ms / 1000
        self._policy, self._manifest, self._links = policy, manifest, links.observed
        self._best_j_NN = self._links.energy_per_bit_j(self._links.best_subcarrier_NN)
        self._key = scheduler_key(manifest.mesh, manifest.model_hash, manifest.layer, manifest.client)
        self._most_bits = manifest.features * 32 + NORM_BITS
        self._changed = threading.Condition()
        self._waiting: list[_Waiting] = []
        self._taken_bytes = 0
        self._closing = False
        self._worker = threading.Thread(target=self._work, name="airmoe scheduler", daemon=True)
        one_TE = np.full((1, manifest.experts), 1 / manifest.experts)
        one = SlotRequest(np.array([float(self._most_bits)]), one_TE, np.ones(one_TE.shape, np.bool_))
        first = self._decide(
            np.array([manifest.client]), one
        )  # compiles now, lest the first slot wait for it
        try:
            refuse_shared(_table_of(first), self._links.radio.subcarriers)
        except FrameError as error:
            expected = f"a policy that gives each link a subcarrier of its own ({error})"
            raise InvalidInputError("schedule", policy.name, expected) from None

    def serve(self, session: zenoh.Session) -> None:
        """Begin to decide for whoever asks."""
        self._worker.start()
        self._queryable = session.declare_queryable(self._key, self._accept)
        self._token = session.liveliness().declare_token(self._key)

    def close(self) -> None:
        """Stop; requests already accepted are answered first. The session stays open."""
        self._token.undeclare()
        self._queryable.undeclare()
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._worker.join(CLOSING_S)

    def _accept(self, query: zenoh.Query) -> None:
        size = 0 if query.payload is None else len(query.payload)
        if query.attachment is not None or not 0 < size <= MAX_SLOT_BYTES:
            refuse(
                query,
                f"the request has {size} bytes; expected a frame of at most {MAX_SLOT_BYTES} bytes alone",
            )
            return
        with self._changed:
            full = len(self._waiting) >= MAX_SLOT_REQUESTS or self._taken_bytes + size > MAX_SLOT_BYTES
            closing = self._closing
            if not full and not closing:
                self._waiting.append(_Waiting(query, size, time.monotonic()))
                self._taken_bytes += size
                self._changed.notify_all()
        if closing:
            refuse(query, "the scheduler is closing")
        elif full:
            refuse(query, "overloaded: too many requests are waiting")

    def _work(self) -> None:
        while slot := self._collect():
            try:
                self._answer(slot)
            finally:
                with self._changed:
                    self._taken_bytes -= sum(waiting.size for waiting in slot)

    def _collect(self) -> list[_Waiting]:
        """Return the requests of the next slot; none when the scheduler closes."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            if self._waiting:
                end_s = self._waiting[0].arrived_s + self._slot_s
                self._changed.wait_for(lambda: self._closing, max(end_s - time.monotonic(), 0.0))
            slot, self._waiting = self._waiting, []
            return slot

    def _answer(self, slot: list[_Waiting]) -> None:
        asked: list[_Asked] = []
        for waiting in slot:
            try:
                asked.append(self._read(waiting))
            except Exception as error:  # one bad request must not spoil the slot
                _refuse_for(error, waiting.query)
        if not asked:
            return
        sizes = [len(one.items.bits_T) for one in asked]
        try:
            routing = self._decide(
                np.repeat([one.frame.expert for one in asked], sizes),
                SlotRequest(
                    *(np.concatenate(rows) for rows in zip(*(one.items for one in asked), strict=True))
                ),
            )
        except Exception as error:  # a policy of the user's own may do anything
            for one in asked:
                _refuse_for(error, one.query)
            return
        end = 0
        for one, size in zip(asked, sizes, strict=True):
            begin, end = end, end + size
            self._reply(one, routing, slice(begin, end))

    def _read(self, waiting: _Waiting) -> _Asked:
        assert waiting.query.payload is not None  # see _accept
        manifest, frame = self._manifest, decode(waiting.query.payload.to_bytes())
        waited_s = time.monotonic() - waiting.arrived_s
        if waited_s * 1000 > frame.remaining_ms:
            raise RefusedError(f"too late: waited {waited_s:.3f} s of {frame.remaining_ms} ms")
        wanted = (manifest.model_hash, manifest.layer)
        if (asked := (frame.model_hash, frame.layer)) != wanted:
            raise RefusedError(f"the request is for (model, layer) {asked}; this scheduler serves {wanted}")
        if frame.expert >= manifest.experts:
            raise RefusedError(f"the source is node {frame.expert}; expected less than {manifest.experts}")
        if frame.is_reply or frame.wire_type != "float32":
            raise FrameError("the frame is a reply or narrower than float32; expected a request in float32")
        items = unpack_request(self._policy.name, frame.array, manifest.experts, self._most_bits)
        return _Asked(waiting.query, frame, items)

    def _decide(self, source_T: NDArray[np.int64], items: SlotRequest) -> Routing:
        experts = self._manifest.experts
        slot = Slot(source_T, np.arange(experts), self._links, self._manifest.layer, items.bits_T)
        best_j_TE = items.bits_T[:, np.newaxis] * self._best_j_NN[source_T]  # as in simulation: see dispatch
        cost = Cost(np.where(items.reachable_TE, best_j_TE, np.inf))
        routing = self._policy.route(items.scores_TE, cost, slot)
        table = routing.subcarrier_NN
        shapes = (routing.mask_TE.shape, routing.feasible_T.shape, None if table is None else table.shape)
        expected = ((len(source_T), experts), (len(source_T),), (experts, experts))
        if shapes != expected:
            raise InvalidInputError(
                f"shapes of {self._policy.name}'s mask_TE, feasible_T and subcarrier_NN",
                shapes,
                str(expected),
            )
        return routing

    def _reply(self, one: _Asked, routing: Routing, rows: slice) -> None:
        reply = SlotReply(routing.mask_TE[rows], routing.feasible_T[rows], _table_of(routing))
        try:
            array = pack_reply(self._policy.name, reply, self._links.radio.subcarriers)
            one.query.reply(self._key, encode(replace(one.frame, array=array, remaining_ms=0, is_reply=True)))
            one.query.drop()
        except Exception as error:
            _refuse_for(error, one.query)


def _table_of(routing: Routing) -> NDArray[np.int64]:
    assert routing.subcarrier_NN is not None  # see Scheduler._decide
    return routing.subcarrier_NN


def _refuse_for(error: Exception, query: zenoh.Query) -> None:
    """Refuse with what is wrong; what nobody foresaw is logged in full, and the service goes on."""
    if isinstance(error, AirmoeError | zenoh.ZError):
        refuse(query, str(error))
    else:
        _log.error("a request failed", exc_info=error)
        refuse(query, f"internal error: {type(error).__name__}")
