"""Requests to a scheduler and its replies, laid out by hand as docs/guide/mesh.md says."""

import zlib
from dataclasses import dataclass, replace

import numpy as np
import zenoh
from numpy.typing import NDArray

from airmoe.links import Links
from airmoe.manifest import Manifest
from airmoe.mesh.frame import Frame, decode, encode
from airmoe.mesh.keys import scheduler_key
from airmoe.scheduling import Cost, Jesa, Routing, Slot

EXPERTS = 4
BITS = 400 * 32 + 32
"""What a float32 item of the run's 400 features is charged for."""
DEADLINE_S = 10.0


@dataclass(frozen=True, eq=False)
class Items:
    """The items of one source."""

    source: int
    scores_TE: NDArray[np.float32]
    reachable_TE: NDArray[np.bool_]


def items_of(source: int, items: int = 20) -> Items:
    """Items of a source whose scores differ; a few experts cannot be reached."""
    rng = np.random.default_rng(source)
    scores_TE = rng.dirichlet(np.full(EXPERTS, 0.5), items).astype(np.float32)
    reachable_TE = rng.random((items, EXPERTS)) < 0.9
    reachable_TE[:, source] = True
    return Items(source, scores_TE, reachable_TE)


def crc_halves(policy: str) -> tuple[int, int]:
    crc = zlib.crc32(policy.encode())
    return crc // 65536, crc % 65536


def array_of(items: Items, policy: str = "jesa:0.5:2") -> NDArray[np.float32]:
    """The array of a request."""
    first = np.zeros((1, 1 + 2 * EXPERTS))
    first[0, :2] = crc_halves(policy)
    bits_T1 = np.full((len(items.scores_TE), 1), BITS)
    rows = np.hstack([bits_T1, items.scores_TE, items.reachable_TE])
    return np.vstack([first, rows]).astype(np.float32)


def routed_together(links: Links, *sources: Items) -> Routing:
    """What JESA decides for the items of these sources in one slot."""
    source_T = np.repeat([items.source for items in sources], [len(items.scores_TE) for items in sources])
    slot = Slot(source_T, np.arange(EXPERTS), links, 1, np.full(len(source_T), float(BITS)))
    scores_TE = np.vstack([items.scores_TE for items in sources]).astype(np.float64)
    reachable_TE = np.vstack([items.reachable_TE for items in sources])
    return Jesa(0.5, 2).route(scores_TE, Cost(np.where(reachable_TE, 0.0, np.inf)), slot)


@dataclass(frozen=True, eq=False)
class Decided:
    """A reply, read by hand."""

    request_id: int
    source: int
    mask_TE: NDArray[np.bool_]
    feasible_T: NDArray[np.bool_]
    subcarrier_NN: NDArray[np.int64]


class SlotAsker:
    """A bare session that asks the scheduler of node 0."""

    def __init__(self, manifest: Manifest, session: zenoh.Session) -> None:
        self.session = session
        self.key = scheduler_key(manifest.mesh, manifest.model_hash, manifest.layer, 0)
        self._empty = Frame(np.zeros(0, np.float32), 0, manifest.model_hash, manifest.layer, 0, 5000)

    def frame(self, items: Items, **changes: object) -> Frame:
        """A well-formed request, with some fields changed."""
        fields = {"array": array_of(items), "expert": items.source, "request_id": 100 + items.source}
        return replace(self._empty, **(fields | changes))  # type: ignore[arg-type]

    def send(
        self, payload: Frame | bytes | None, attachment: bytes | None = None
    ) -> "zenoh.handlers.Handler[zenoh.Reply]":
        """Ask without waiting for the reply."""
        return self.session.get(
            self.key,
            payload=encode(payload) if isinstance(payload, Frame) else payload,
            attachment=attachment,
            timeout=DEADLINE_S,
            congestion_control=zenoh.CongestionControl.BLOCK,
        )

    def wait_until_scheduled(self) -> None:
        subscriber = self.session.liveliness().declare_subscriber(self.key, history=True)
        subscriber.recv()
        subscriber.undeclare()


def reply_in(pending: "zenoh.handlers.Handler[zenoh.Reply]") -> zenoh.Reply:
    (reply,) = pending
    return reply


def decided(pending: "zenoh.handlers.Handler[zenoh.Reply]") -> Decided:
    reply = reply_in(pending)
    assert reply.ok is not None, reply.err and reply.err.payload.to_bytes()
    frame = decode(reply.ok.payload.to_bytes())
    assert frame.is_reply
    first, rows, table = np.split(frame.array, [1, -EXPERTS])
    assert tuple(first[0, :2]) == crc_halves("jesa:0.5:2")
    return Decided(
        frame.request_id, frame.expert, rows[:, 1:] == 1, rows[:, 0] == 1, table[:, 1:].astype(np.int64)
    )


def refusal(pending: "zenoh.handlers.Handler[zenoh.Reply]") -> str:
    reply = reply_in(pending)
    assert reply.err is not None
    return reply.err.payload.to_bytes().decode()
