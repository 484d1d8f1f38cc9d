"""Requests to a scheduler and its replies, laid out by hand as docs/operate/mesh.md says."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import zenoh
from numpy.typing import NDArray

from airmoe.links import Links
from airmoe.manifest import Manifest
from airmoe.mesh.frame import Frame, Kind, decode, encode
from airmoe.mesh.keys import asked_key, scheduler_key
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


def arrays_of(items: Items, decides: str = "jesa:0.5:2", **changes: Any) -> dict[str, NDArray[Any]]:
    """The arrays of a request, some of them changed; one that is None is left out."""
    arrays = {
        "policy": np.frombuffer(decides.encode(), np.uint8),
        "source": np.int32(items.source),
        "node": np.arange(EXPERTS, dtype=np.int32),
        "bits": np.full(len(items.scores_TE), float(BITS)),
        "scores": items.scores_TE.astype(np.float64),
        "reachable": items.reachable_TE,
    }
    return {name: np.asarray(array) for name, array in (arrays | changes).items() if array is not None}


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
        self.key = scheduler_key(manifest.mesh, manifest.model_hash, 1, 0)
        self._model_hash = manifest.model_hash

    def frame(self, items: Items, **changes: Any) -> Frame:
        """A well-formed request, with some fields changed."""
        fields = {
            "kind": Kind.ITEMS,
            "arrays": arrays_of(items),
            "request_id": 100 + items.source,
            "model_hash": self._model_hash,
            "layer": 1,
            "expert": None,
            "remaining_ms": 5000,
        }
        return Frame(**(fields | changes))

    def send(
        self, payload: Frame | bytes | None, attachment: bytes | None = None
    ) -> "zenoh.handlers.Handler[zenoh.Reply]":
        """Ask without waiting for the reply."""
        return self.session.get(
            asked_key(self.key, "tester"),
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
    assert frame.kind == Kind.SCHEDULE
    arrays = frame.arrays
    assert arrays["policy"].tobytes() == b"jesa:0.5:2"
    return Decided(
        frame.request_id, int(arrays["source"]), arrays["mask"], arrays["feasible"], arrays["subcarrier"]
    )


def refusal(pending: "zenoh.handlers.Handler[zenoh.Reply]") -> str:
    reply = reply_in(pending)
    assert reply.err is not None
    return reply.err.payload.to_bytes().decode()
