"""The mesh as a carrier: one request per expert and batch, all sent together, collected until one deadline.

Shape suffixes: T items, I some of them, E experts, C classes, P (item, expert) pairs sorted by expert.
"""

import itertools
import logging
import math
import queue
import secrets
import time
from collections.abc import Callable

import numpy as np
import zenoh
from numpy.typing import NDArray

from airmoe.dispatch import (
    NORM_BITS,
    AirtimePrice,
    Delivery,
    IdealPrice,
    Price,
    Transfer,
    analog_channel_uses,
)
from airmoe.errors import FrameError
from airmoe.links import Links
from airmoe.links.analog import receive_analog
from airmoe.manifest import Manifest, MeshTransmission
from airmoe.mesh.frame import BYTES_PER_VALUE, Frame, WireType, decode, encode
from airmoe.mesh.keys import expert_key, layer_key
from airmoe.mesh.liveliness import SILENCE_S, Liveliness
from airmoe.mesh.queries import ask, refusal_of
from airmoe.scheduling import Slot

_log = logging.getLogger("airmoe.mesh")


class MeshCarrier:
    """Brings payloads to the experts of a mesh and probabilities back.

    The client's own expert, if it has one, runs in this process and costs nothing. The others are found by
    their liveliness tokens; an expert that is not alive, or just let a request time out, is priced at
    infinity.

    Over ideal links an expert is sent the payload as it is, whose bits are priced at the Shannon rate. Over
    analog links it is sent what its receiver would get at the link's true SNR, see `receive_analog`, and the
    price is that of the airtime. Answers come back without error.

    ``liveliness`` tells which experts' nodes are alive.

    Args:
        session: an open Zenoh session.
        manifest: of the client that asks.
        own_expert: runs the client's own expert; None for a server, which has none.
        links: the simulated links that price the transfers, as they are and as observed.
        wire_type: how values travel.
        transmission: "ideal" or "analog" links.
        random: where noise is drawn from.
    """

    def __init__(
        self,
        session: zenoh.Session,
        manifest: Manifest,
        own_expert: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None,
        links: Links,
        wire_type: WireType,
        transmission: MeshTransmission,
        random: np.random.Generator,
    ) -> None:
        self.sent_bytes = self.received_bytes = 0
        self._session, self._manifest, self._own_expert = session, manifest, own_expert
        self._wire_type, self._is_analog, self._random = wire_type, transmission == "analog", random
        self.links = links
        self._request_ids = itertools.count(secrets.randbits(48))
        key = layer_key(manifest.mesh, manifest.model_hash, manifest.layer)
        self.liveliness = Liveliness(session, key, manifest.experts)

    def close(self) -> None:
        """Stop watching the mesh; the session stays open."""
        self.liveliness.close()

    @property
    def own_experts(self) -> frozenset[int]:
        """The client's own expert; nothing for a server."""
        expert = self._manifest.expert
        return frozenset() if expert is None else frozenset({expert})

    @property
    def links(self) -> Links:
        """The simulated links; price and noise follow when others are set."""
        return self._links

    @links.setter
    def links(self, links: Links) -> None:
        """Let price and noise follow other links."""
        self._links = links
        self._ideal_price = None if self._is_analog else IdealPrice(links)

    def payload_bits(self, payload_T: NDArray[np.float32]) -> int:
        """Return the bits of an item's payload on the wire and of its norm."""
        return int(payload_T[0].size) * BYTES_PER_VALUE[self._wire_type] * 8 + NORM_BITS

    def price(
        self, payload_T: NDArray[np.float32], slot: Slot, subcarrier_NN: NDArray[np.int64] | None = None
    ) -> Price:
        """Return joules and seconds over the simulated links."""
        if self._ideal_price is not None:
            return self._ideal_price(slot, subcarrier_NN)
        return AirtimePrice(self.links.radio)(slot, math.ceil(analog_channel_uses(int(payload_T[0].size))))

    def can_ask(self, slot: Slot) -> NDArray[np.bool_]:
        """Return (E, R), True for the experts that are alive and were not silent of late."""
        askable = sorted(self.liveliness.askable | self.own_experts)
        return np.isin(np.arange(slot.placement.experts), askable)[:, np.newaxis]

    def carry(self, transfer: Transfer[NDArray[np.float32]]) -> Delivery[NDArray[np.float32]]:
        """Ask every expert once for all of its items; what has not come by the deadline is left out."""
        payload_T, item_P, expert_P = transfer.payload_T, transfer.item_P, transfer.expert_P
        slot, deadline_s = transfer.slot, transfer.deadline_s
        used, first = np.unique(expert_P, return_index=True)
        items = dict(zip(used.tolist(), np.split(item_P, first[1:]), strict=True))
        end = time.monotonic() + deadline_s
        replies: queue.SimpleQueue[tuple[int, zenoh.Reply | None]] = queue.SimpleQueue()
        waiting: dict[int, int] = {}
        for expert in sorted(items.keys() - self.own_experts):
            waiting[expert] = next(self._request_ids)
            received_I = self._received(payload_T, items[expert], expert, slot)
            self._send(expert, waiting[expert], received_I, deadline_s, replies)

        outputs: dict[int, NDArray[np.float32]] = {}
        for expert in items.keys() & self.own_experts:
            assert self._own_expert is not None  # see own_experts
            outputs[expert] = self._own_expert(payload_T[items[expert]])
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
            self.liveliness.silent(expert)

        answered = sorted(outputs)
        return Delivery(
            np.concatenate([items[expert] for expert in answered] or [item_P[:0]]),
            np.repeat(np.array(answered, np.int64), [len(items[expert]) for expert in answered]),
            np.concatenate(
                [outputs[expert] for expert in answered]
                or [np.empty((0, len(self._manifest.classes)), np.float32)]
            ),
        )

    def _received(
        self, payload_T: NDArray[np.float32], item_I: NDArray[np.int64], expert: int, slot: Slot
    ) -> NDArray[np.float32]:
        """Return what an expert's receiver gets of its items."""
        if not self._is_analog:
            return payload_T[item_I]
        snr_db_I1 = self.links.snr_db(slot.source_T[item_I], slot.placement.first_E[[expert]])
        return receive_analog(payload_T[item_I], snr_db_I1[:, 0], self._random)

    def _send(
        self,
        expert: int,
        request_id: int,
        payload_I: NDArray[np.float32],
        deadline_s: float,
        replies: "queue.SimpleQueue[tuple[int, zenoh.Reply | None]]",
    ) -> None:
        manifest = self._manifest
        frame = encode(
            Frame(
                payload_I,
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
