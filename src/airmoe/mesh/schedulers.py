"""The schedulers of a mesh as one client sees them."""

import itertools
import queue
import secrets
import threading
import time
from collections.abc import Callable

import zenoh

from airmoe.errors import FrameError, MeshError, NoNodeReachableError, RefusedError
from airmoe.links import Links
from airmoe.manifest import Manifest
from airmoe.mesh.frame import Frame, Kind, decode, encode
from airmoe.mesh.keys import scheduler_key, schedulers_key
from airmoe.mesh.liveliness import Liveliness
from airmoe.mesh.log import about, mesh_log
from airmoe.mesh.peers import Peers
from airmoe.mesh.queries import ask, refusal_of
from airmoe.mesh.requests import LISTENING_S, Traffic
from airmoe.mesh.slot_messages import SlotReply, SlotRequest, read_reply, request_arrays
from airmoe.scheduling import JointPolicy


class Schedulers:
    """Asks a scheduler to decide: the one on the lowest node that is alive.

    ``liveliness`` says which are alive, ``peers`` which of them are suspected.

    Args:
        session: an open Zenoh session.
        manifest: of the client that asks.
        layer: number of the layer.
        asker: what the client calls itself when it asks.
        admits: whether a node belongs to the mesh.
    """

    def __init__(
        self,
        session: zenoh.Session,
        manifest: Manifest,
        layer: int,
        asker: str,
        admits: Callable[[int], bool],
    ) -> None:
        self._session, self._manifest, self._layer = session, manifest, layer
        self._asker = asker
        self._request_ids = itertools.count(secrets.randbits(48))
        self._deciding = True
        self._reporting = threading.Lock()
        key = schedulers_key(manifest.mesh, manifest.model_hash, layer)
        self.peers: Peers[int] = Peers()  # nothing known: half a second, and no slot is longer
        self.liveliness = Liveliness(session, key, range(manifest.nodes), self.peers.back, admits)

    def close(self) -> None:
        """Stop watching the mesh; the session stays open."""
        self.liveliness.close()

    def decide(
        self, policy: str, request: SlotRequest, links: Links, wait_s: float, traffic: Traffic
    ) -> SlotReply:
        """Ask the scheduler on the lowest node that is alive and not suspected.

        Args:
            policy: name of the policy that it must run.
            request: the client's items.
            links: the client's links, on whose subcarriers it decides.
            wait_s: seconds to wait for the answer.
            traffic: where bytes are counted, and the scheduler is noted.

        Raises:
            MeshError: no scheduler is alive, or it refused, was too slow, or sent a bad reply.
        """
        if wait_s <= 0:
            raise MeshError("no time is left to ask a scheduler")
        end_s = time.monotonic() + wait_s
        candidates = self.peers.askable(self.liveliness.alive)
        if not candidates:
            raise NoNodeReachableError("no scheduler is alive")
        node, manifest = min(candidates), self._manifest
        asked = Frame(
            Kind.ITEMS,
            request_arrays(policy, request),
            next(self._request_ids),
            manifest.model_hash,
            self._layer,
            None,
            int(wait_s * 1000),
        )
        frame = encode(asked)
        traffic.sent_bytes += len(frame)
        replies: queue.SimpleQueue[zenoh.Reply | None] = queue.SimpleQueue()
        items, sent_s = len(request.bits_T), time.monotonic()
        is_trial = not self.peers.asked(node, asked.request_id, items)

        def arrived(reply: zenoh.Reply | None) -> None:
            if reply is None:
                self.peers.ended(node, asked.request_id)
            elif reply.ok is None:
                self.peers.refused(node, asked.request_id, is_busy=False)
            else:
                self.peers.answered(node, asked.request_id, items, time.monotonic() - sent_s)
            replies.put(reply)

        key = scheduler_key(manifest.mesh, manifest.model_hash, self._layer, node)
        # The query lasts longer than our own wait: silence must not look like a refusal.
        ask(self._session, key, self._asker, frame, wait_s + LISTENING_S, arrived, f"scheduler {node}")
        if is_trial:
            raise MeshError(f"scheduler {node} is suspected; it is tried, and not waited for")
        failure = MeshError(f"scheduler {node} gave no answer")
        while True:
            try:
                reply = replies.get(timeout=max(end_s - time.monotonic(), 0.0))
            except queue.Empty:
                raise MeshError(f"scheduler {node} did not answer within {wait_s:.3f} s") from None
            if reply is None:  # no more replies will come
                raise failure
            try:
                answer = _answer_to(asked, reply, traffic)
                decided = read_reply(policy, answer, request, links.nodes, links.radio.subcarriers)
                traffic.scheduler = node
                return decided
            except RefusedError as error:
                failure = MeshError(f"scheduler {node} refused: {error}")
            except FrameError as error:
                self.peers.failed(node)
                failure = MeshError(f"scheduler {node} sent a bad reply: {error}")

    def report(self, policy: JointPolicy, failure: MeshError | None) -> None:
        """Log who decides, whenever that changes: a scheduler, or the fallback after a failure."""
        with self._reporting:
            changed = self._deciding != (failure is None)
            self._deciding = failure is None
        if changed and failure is not None:
            mesh_log.warning(
                "%s; until one decides again, %s decides at this client instead of %s",
                failure,
                policy.fallback.name,
                policy.name,
                extra=about("schedulers"),
            )
        elif changed:
            mesh_log.info("a scheduler decides by %s again", policy.name, extra=about("schedulers"))


def _answer_to(asked: Frame, reply: zenoh.Reply, traffic: Traffic) -> Frame:
    """Return the frame of a reply; refuse one that is not about the request."""
    if reply.ok is None:
        raise RefusedError(repr(refusal_of(reply)))
    data = reply.ok.payload.to_bytes()
    traffic.received_bytes += len(data)
    frame = decode(data)
    about = (frame.request_id, frame.model_hash, frame.layer)
    if frame.kind != Kind.SCHEDULE or about != (asked.request_id, asked.model_hash, asked.layer):
        raise FrameError("it answers another request")
    return frame
