"""The requests of one query: sent, awaited side by side, and counted.

Shape suffixes: I items of one request.
"""

import queue
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import zenoh
from numpy.typing import NDArray

from airmoe.errors import FrameError
from airmoe.mesh.bundle import MOST_FRAMES, bundled, bundled_size, unbundled
from airmoe.mesh.frame import MAX_FRAME_BYTES, Frame, Kind, encode
from airmoe.mesh.keys import Replica, expert_key
from airmoe.mesh.layer import MeshLayer
from airmoe.mesh.log import about_node, mesh_log
from airmoe.mesh.queries import refusal_of
from airmoe.mesh.replies import read_output
from airmoe.mesh.request_queue import OVERLOADED
from airmoe.mesh.wire import Message

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


class Asked(NamedTuple):
    """What is asked of one expert: items by number, and their payloads."""

    expert: int
    item_I: NDArray[np.int64]
    payload_I: NDArray[np.float32]


@dataclass(eq=False)
class Request:
    """What is asked of one replica; requests to the same node share a message.

    Attributes:
        replica: who is asked.
        item_I: int64, the items that it is about.
        frame: as it was sent.
        message: the number of the message that it was sent in.
        late_s: when the peer is late, by the monotonic clock; at once where the request is a trial.
        is_trial: whether the peer is suspected.
        output_I: float32, what came.
    """

    replica: Replica
    item_I: NDArray[np.int64]
    frame: Frame
    message: int
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
        self._replies: queue.SimpleQueue[tuple[list[Request], zenoh.Reply | None]] = queue.SimpleQueue()
        self._open: dict[int, Request] = {}
        self._sent: dict[int, Message] = {}
        self._closed = deque[Request]()

    @property
    def open(self) -> list[Request]:
        """The requests that may still be answered."""
        return list(self._open.values())

    @property
    def has_answers(self) -> bool:
        """Whether `answer` returns at once: a message brought several answers."""
        return bool(self._closed)

    def send(self, node: int, asked: Sequence[Asked], deadline_s: float) -> list[Request]:
        """Ask some experts of one node, in as few messages as can be; return without waiting."""
        frames = [self._framed(each, deadline_s) for each in asked]
        encoded = [encode(frame) for frame in frames]
        requests, begin = list[Request](), 0
        for end in range(1, len(asked) + 1):
            if end == len(asked) or not _fits([len(data) for data in encoded[begin : end + 1]]):
                part = slice(begin, end)
                requests += self._post(node, asked[part], frames[part], bundled(encoded[part]), deadline_s)
                begin = end
        return requests

    def _framed(self, asked: Asked, deadline_s: float) -> Frame:
        layer = self._layer
        return Frame(
            Kind.PAYLOADS,
            {"payload": asked.payload_I},
            next(layer.request_ids),
            layer.manifest.model_hash,
            layer.spec.layer,
            asked.expert,
            int(deadline_s * 1000),
            layer.wire_type,
            layer.spec.hashes[asked.expert],
        )

    def _post(
        self, node: int, asked: Sequence[Asked], frames: list[Frame], data: bytes, deadline_s: float
    ) -> list[Request]:
        """Send one message."""
        layer, manifest, message = self._layer, self._layer.manifest, frames[0].request_id
        self._traffic.sent_bytes += len(data)
        items = sum(len(each.item_I) for each in asked)
        sent_s, patience_s = time.monotonic(), layer.peers.asked(node, message, items)
        requests = [
            Request(
                Replica(each.expert, node), each.item_I, frame, message, sent_s + patience_s, patience_s == 0
            )
            for each, frame in zip(asked, frames, strict=True)
        ]
        self._open |= {request.frame.request_id: request for request in requests}

        def arrived(reply: zenoh.Reply | None) -> None:
            if reply is None:
                layer.peers.ended(node, message)
            elif reply.ok is None:
                is_busy = refusal_of(reply).startswith(OVERLOADED)
                layer.peers.refused(node, message, is_busy=is_busy)
            else:
                layer.peers.answered(node, message, items, time.monotonic() - sent_s)
            self._replies.put((requests, reply))

        key = expert_key(manifest.mesh, manifest.model_hash, layer.spec.layer, *requests[0].replica)
        timeout_s, whom = deadline_s + LISTENING_S, called(requests)
        self._sent[message] = layer.wire.ask(node, key, data, timeout_s, arrived, whom)
        return requests

    def answer(self, until_s: float) -> Request | None:
        """Return the next request that is answered, or that will not be; None if that takes too long.

        Args:
            until_s: by the monotonic clock.
        """
        while not self._closed:
            try:
                requests, reply = self._replies.get(timeout=max(until_s - time.monotonic(), 0.0))
            except queue.Empty:
                return None
            awaited = [each for each in requests if each.frame.request_id in self._open]
            if awaited and reply is not None:
                self._read(requests, reply)
            # Where nothing came, another may answer under the same key.
            self._closed += [each for each in awaited if reply is None or each.output_I is not None]
        request = self._closed.popleft()
        del self._open[request.frame.request_id]
        return request

    def close(self) -> None:
        """Withdraw what is late: another answered. A trial goes on, for the peer's sake."""
        layer, now_s = self._layer, time.monotonic()
        withdrawn = set[int]()
        for request in self._open.values():
            if request.is_trial or request.late_s > now_s or request.message in withdrawn:
                continue
            withdrawn.add(request.message)
            layer.peers.withdrawn(request.replica.node, request.message)
            layer.wire.withdraw(self._sent[request.message], request.message)

    def _read(self, requests: list[Request], reply: zenoh.Reply) -> None:
        """Take what one reply brings for all requests of a message, or nothing where a part is wrong."""
        node = requests[0].replica.node
        whose = about_node(node)
        if reply.ok is None:
            mesh_log.warning("%s refused: %r", called(requests), refusal_of(reply), extra=whose)
            return
        data = reply.ok.payload.to_bytes()
        self._traffic.received_bytes += len(data)
        try:
            parts = unbundled(data)
            if len(parts) != len(requests):
                raise FrameError(f"it has {len(parts)} frames; expected {len(requests)}")
            outputs = [
                read_output(part, request.frame, self._layer.spec)
                for part, request in zip(parts, requests, strict=True)
            ]
        except FrameError as error:
            self._layer.peers.failed(node)
            mesh_log.warning("%s sent a bad reply: %s", called(requests), error, extra=whose)
            return
        for request, output_I in zip(requests, outputs, strict=True):
            if request.frame.request_id in self._open:
                request.output_I = output_I


def _fits(sizes: list[int]) -> bool:
    return len(sizes) <= MOST_FRAMES and bundled_size(sizes) <= MAX_FRAME_BYTES


def called(requests: Sequence[Request]) -> str:
    """Return what a message calls those who are asked, all at one node."""
    experts = ", ".join(str(request.replica.expert) for request in requests)
    return f"expert{'s' * (len(requests) > 1)} {experts} at node {requests[0].replica.node}"
