"""The requests of one query: sent, awaited side by side, and counted.

Shape suffixes: I items of one request.
"""

import queue
import time
from dataclasses import dataclass

import numpy as np
import zenoh
from numpy.typing import NDArray

from airmoe.errors import FrameError
from airmoe.mesh.frame import Frame, Kind, encode
from airmoe.mesh.keys import Replica, expert_key
from airmoe.mesh.layer import MeshLayer
from airmoe.mesh.log import about_node, mesh_log
from airmoe.mesh.queries import ask, refusal_of, withdraw
from airmoe.mesh.replies import read_output
from airmoe.mesh.request_queue import OVERLOADED

Outputs = list[tuple[int, NDArray[np.int64], NDArray[np.float32]]]
"""Expert, items and outputs."""

LISTENING_S = 1.5
"""How long after its deadline a query still hears that a peer answers: it is slow then, and not gone."""


@dataclass
class Traffic:
    """Bytes of the requests and replies of one query, as framed, and the node whose scheduler decided."""

    sent_bytes: int = 0
    received_bytes: int = 0
    scheduler: int | None = None


@dataclass(eq=False)
class Request:
    """A request for one replica.

    Attributes:
        replica: who is asked.
        item_I: int64, the items that it is about.
        frame: as it was sent.
        late_s: when the peer is late, by the monotonic clock; at once where the request is a trial.
        is_trial: whether the peer is suspected.
        output_I: float32, what came.
    """

    replica: Replica
    item_I: NDArray[np.int64]
    frame: Frame
    late_s: float
    is_trial: bool
    output_I: NDArray[np.float32] | None = None

    @property
    def outputs(self) -> Outputs:
        """What came, if anything did."""
        return [] if self.output_I is None else [(self.replica.expert, self.item_I, self.output_I)]


class Requests:
    """Sends requests and hands out their answers in the order in which they come.

    Args:
        layer: the experts.
        traffic: where bytes are counted.
    """

    def __init__(self, layer: MeshLayer, traffic: Traffic) -> None:
        self._layer, self._traffic = layer, traffic
        self._replies: queue.SimpleQueue[tuple[Request, zenoh.Reply | None]] = queue.SimpleQueue()
        self._open: dict[int, Request] = {}

    @property
    def open(self) -> list[Request]:
        """The requests that may still be answered."""
        return list(self._open.values())

    def send(
        self, replica: Replica, item_I: NDArray[np.int64], payload_I: NDArray[np.float32], deadline_s: float
    ) -> Request:
        """Ask a replica about some items; return without waiting."""
        layer, manifest = self._layer, self._layer.manifest
        request_id, items = next(layer.request_ids), len(item_I)
        frame = Frame(
            Kind.PAYLOADS,
            {"payload": payload_I},
            request_id,
            manifest.model_hash,
            layer.spec.layer,
            replica.expert,
            int(deadline_s * 1000),
            layer.wire_type,
            layer.spec.hashes[replica.expert],
        )
        data = encode(frame)
        self._traffic.sent_bytes += len(data)
        sent_s, patience_s = time.monotonic(), layer.peers.asked(replica.node, request_id, items)
        request = Request(replica, item_I, frame, sent_s + patience_s, patience_s == 0)
        self._open[request_id] = request

        def arrived(reply: zenoh.Reply | None) -> None:
            if reply is None:
                layer.peers.ended(replica.node, request_id)
            elif reply.ok is None:
                is_busy = refusal_of(reply).startswith(OVERLOADED)
                layer.peers.refused(replica.node, request_id, is_busy=is_busy)
            else:
                layer.peers.answered(replica.node, request_id, items, time.monotonic() - sent_s)
            self._replies.put((request, reply))

        key = expert_key(manifest.mesh, manifest.model_hash, layer.spec.layer, *replica)
        ask(layer.session, key, layer.asker, data, deadline_s + LISTENING_S, arrived, called(replica))
        return request

    def answer(self, until_s: float) -> Request | None:
        """Return the next request that is answered, or that will not be; None if that takes too long.

        Args:
            until_s: by the monotonic clock.
        """
        while True:
            try:
                request, reply = self._replies.get(timeout=max(until_s - time.monotonic(), 0.0))
            except queue.Empty:
                return None
            if request.frame.request_id not in self._open:
                continue
            if reply is not None:
                request.output_I = self._read(request, reply)
                if request.output_I is None:
                    continue  # another may answer under the same key
            del self._open[request.frame.request_id]
            return request

    def close(self) -> None:
        """Withdraw what is late: another answered. A trial goes on, for the peer's sake."""
        layer, manifest, now_s = self._layer, self._layer.manifest, time.monotonic()
        for request in self._open.values():
            if request.is_trial or request.late_s > now_s:
                continue
            layer.peers.withdrawn(request.replica.node, request.frame.request_id)
            key = expert_key(manifest.mesh, manifest.model_hash, layer.spec.layer, *request.replica)
            withdraw(layer.session, key, layer.asker, request.frame.request_id)

    def _read(self, request: Request, reply: zenoh.Reply) -> NDArray[np.float32] | None:
        if reply.ok is None:
            why, whose = refusal_of(reply), about_node(request.replica.node)
            mesh_log.warning("%s refused: %r", called(request.replica), why, extra=whose)
            return None
        data = reply.ok.payload.to_bytes()
        self._traffic.received_bytes += len(data)
        try:
            return read_output(data, request.frame, self._layer.spec)
        except FrameError as error:
            self._layer.peers.failed(request.replica.node)
            whose = about_node(request.replica.node)
            mesh_log.warning("%s sent a bad reply: %s", called(request.replica), error, extra=whose)
            return None


def called(replica: Replica) -> str:
    """Return what a message calls a replica."""
    return f"expert {replica.expert} at node {replica.node}"
