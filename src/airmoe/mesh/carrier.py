"""The mesh as a carrier: one request per expert and batch, all sent together, collected until one deadline.

Shape suffixes: T items, E experts, F features, C classes, P (item, expert) pairs sorted by expert.
"""

import itertools
import logging
import queue
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import zenoh
from numpy.typing import NDArray

from airmoe.errors import FrameError
from airmoe.links import Links
from airmoe.mesh.frame import BYTES_PER_VALUE, Frame, WireType, decode, encode
from airmoe.mesh.keys import expert_key, layer_key
from airmoe.mesh.queries import ask, refusal_of
from airmoe.mesh.session import LEASE_MS
from airmoe.runfolder import Manifest
from airmoe.scheduling import NORM_BITS, IdealPrice, Price, Slot
from airmoe.scheduling.dispatch import Delivery

_log = logging.getLogger("airmoe.mesh")

SILENCE_S = LEASE_MS / 1000
"""An expert that let a request time out is not asked again for this long; by then a dead node is known."""


class MeshCarrier:
    """Brings features to the experts of a mesh and probabilities back.

    The client's own expert runs in this process and costs nothing. The others are found by their liveliness
    tokens; an expert that is not alive, or just let a request time out, is priced at infinity.

    Args:
        session: an open Zenoh session.
        manifest: of the client that asks.
        own_expert: runs the client's own expert.
        links: the simulated links that price the transfers, as they are and as observed.
        wire_type: how values travel; the price counts its bits.
    """

    def __init__(
        self,
        session: zenoh.Session,
        manifest: Manifest,
        own_expert: Callable[[NDArray[np.float32]], NDArray[np.float32]],
        links: Links,
        wire_type: WireType = "float32",
    ) -> None:
        self.sent_bytes = self.received_bytes = 0
        self._session, self._manifest, self._own_expert = session, manifest, own_expert
        self.links: Links | None = links
        self._price, self._wire_type = IdealPrice(links), wire_type
        self._request_ids = itertools.count(secrets.randbits(48))
        self._silent_until_s: dict[int, float] = {}
        self._alive: set[int] = set()
        self._expert_named = {str(expert): expert for expert in range(manifest.experts)}
        self._changed = threading.Condition()
        self._watching = True
        self._subscriber = session.liveliness().declare_subscriber(
            f"{layer_key(manifest.mesh, manifest.model_hash, manifest.layer)}/*",
            self._on_liveliness,
            history=True,
        )

    def close(self) -> None:
        """Stop watching the mesh; the session stays open."""
        if self._watching:
            self._subscriber.undeclare()
        self._watching = False

    @property
    def alive(self) -> frozenset[int]:
        """The experts whose nodes are alive."""
        with self._changed:
            return frozenset(self._alive)

    def wait_alive(self, experts: int, timeout_s: float) -> int:
        """Wait until so many experts are alive or the time is over; return how many are."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._alive) >= experts, timeout_s)
            return len(self._alive)

    def payload_bits(self, payload_T: NDArray[np.float32]) -> int:
        """Return the bits of an item's payload on the wire and of its norm."""
        return int(payload_T[0].size) * BYTES_PER_VALUE[self._wire_type] * 8 + NORM_BITS

    def price_j(self, slot: Slot, subcarrier_NN: NDArray[np.int64] | None = None) -> Price:
        """Return (T, E) joules over the simulated links, quoted inf for experts that cannot be asked now."""
        price = self._price(slot, subcarrier_NN)
        now, alive = time.monotonic(), self.alive
        for expert in range(self._manifest.experts):
            silent = self._silent_until_s.get(expert, 0.0) > now
            if expert != self._manifest.expert and (silent or expert not in alive):
                price.quoted_j_TE[:, expert] = np.inf
        return price

    def carry(
        self,
        payload_T: NDArray[np.float32],
        item_P: NDArray[np.int64],
        expert_P: NDArray[np.int64],
        slot: Slot,
        experts: Any,
        deadline_s: float,
    ) -> Delivery[NDArray[np.float32]]:
        """Ask every expert once for all of its items; what has not come by the deadline is left out."""
        used, first = np.unique(expert_P, return_index=True)
        items = dict(zip(used.tolist(), np.split(item_P, first[1:]), strict=True))
        end = time.monotonic() + deadline_s
        replies: queue.SimpleQueue[tuple[int, zenoh.Reply | None]] = queue.SimpleQueue()
        waiting: dict[int, int] = {}
        for expert in items.keys() - {self._manifest.expert}:
            waiting[expert] = next(self._request_ids)
            self._send(expert, waiting[expert], payload_T[items[expert]], deadline_s, replies)

        outputs: dict[int, NDArray[np.float32]] = {}
        if self._manifest.expert in items:
            outputs[self._manifest.expert] = self._own_expert(payload_T[items[self._manifest.expert]])
        while waiting:
            try:
                expert, reply = replies.get(timeout=max(end - time.monotonic(), 0.0))
            except queue.Empty:
                break
            if reply is None:  # no more replies will come for this expert
                waiting.pop(expert, None)
            elif (output := self._read(reply, expert, waiting.get(expert), len(items[expert]))) is not None:
                outputs[expert] = output
                waiting.pop(expert, None)
        for expert in waiting:
            _log.warning("expert %d did not answer within %.3f s", expert, deadline_s)
            self._silent_until_s[expert] = time.monotonic() + SILENCE_S

        answered = sorted(outputs)
        return Delivery(
            np.concatenate([items[expert] for expert in answered] or [item_P[:0]]),
            np.repeat(np.array(answered, np.int64), [len(items[expert]) for expert in answered]),
            np.concatenate(
                [outputs[expert] for expert in answered]
                or [np.empty((0, len(self._manifest.classes)), np.float32)]
            ),
        )

    def _send(
        self,
        expert: int,
        request_id: int,
        features_TF: NDArray[np.float32],
        deadline_s: float,
        replies: "queue.SimpleQueue[tuple[int, zenoh.Reply | None]]",
    ) -> None:
        manifest = self._manifest
        frame = encode(
            Frame(
                features_TF,
                request_id,
                manifest.model_hash,
                manifest.layer,
                expert,
                int(deadline_s * 1000),
                self._wire_type,
            )
        )
        self.sent_bytes += len(frame)

        ask(
            self._session,
            expert_key(manifest.mesh, manifest.model_hash, manifest.layer, expert),
            frame,
            deadline_s + SILENCE_S,  # ours comes first, so that silence is told from refusal
            lambda reply: replies.put((expert, reply)),
            f"expert {expert}",
        )

    def _read(
        self, reply: zenoh.Reply, expert: int, request_id: int | None, rows: int
    ) -> NDArray[np.float32] | None:
        if reply.ok is None:
            _log.warning("expert %d refused: %r", expert, refusal_of(reply))
            return None
        data = reply.ok.payload.to_bytes()
        self.received_bytes += len(data)
        try:
            frame = decode(data)
            answered = (frame.is_reply, frame.request_id, frame.expert, frame.model_hash)
            if answered != (True, request_id, expert, self._manifest.model_hash):
                raise FrameError("it answers another request")
            if frame.array.shape != (rows, len(self._manifest.classes)):
                raise FrameError(
                    f"it has shape {frame.array.shape}; expected {(rows, len(self._manifest.classes))}"
                )
            if not np.isfinite(frame.array).all():
                raise FrameError("it is not finite")
        except FrameError as error:
            _log.warning("expert %d sent a bad reply: %s", expert, error)
            return None
        return frame.array

    def _on_liveliness(self, sample: zenoh.Sample) -> None:
        name = str(sample.key_expr).rpartition("/")[2]
        expert = self._expert_named.get(name)
        if expert is None:
            return
        with self._changed:
            if sample.kind == zenoh.SampleKind.PUT:
                self._alive.add(expert)
                self._silent_until_s.pop(expert, None)
            else:
                self._alive.discard(expert)
            self._changed.notify_all()
