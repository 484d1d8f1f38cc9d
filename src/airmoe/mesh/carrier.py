"""The mesh as a carrier: one request per replica and batch. All share one deadline.

Shape suffixes: T items, I some of them, E experts, R replicas, N nodes, P (item, expert) pairs sorted by
expert.
"""

import itertools
import logging
import queue
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

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
from airmoe.mesh.frame import BYTES_PER_VALUE, Frame, Kind, WireType, decode, encode
from airmoe.mesh.keys import Replica, expert_key, layer_key
from airmoe.mesh.liveliness import SILENCE_S, Liveliness
from airmoe.mesh.queries import ask, asker_name, refusal_of
from airmoe.scheduling import Placement, Slot

_log = logging.getLogger("airmoe.mesh")

Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]
Outputs = dict[Replica, NDArray[np.float32]]


@dataclass
class Traffic:
    """Bytes of the requests and replies of one query, as framed, and the node whose scheduler decided."""

    sent_bytes: int = 0
    received_bytes: int = 0
    scheduler: int | None = None


class MeshLayer:
    """The experts of one layer as a client reaches them; it makes a carrier for every query.

    The client's own experts, if it has some, run in this process and cost nothing. The others are found by
    their liveliness tokens.

    ``placement`` says where the experts are, ``liveliness`` which of their replicas are alive.

    Args:
        session: an open Zenoh session.
        manifest: of the client that asks.
        layer: number of the layer.
        own: the networks of the client's own experts in this layer, by number.
        wire_type: how values travel.
        transmission: "ideal" or "analog" links.
        random: the generator that draws the noise.
    """

    def __init__(
        self,
        session: zenoh.Session,
        manifest: Manifest,
        layer: int,
        own: Mapping[int, Network],
        wire_type: WireType,
        transmission: MeshTransmission,
        random: np.random.Generator,
    ) -> None:
        self.session, self.manifest, self.spec, self.own = session, manifest, manifest.layer(layer), own
        self.wire_type, self.is_analog, self.random = wire_type, transmission == "analog", random
        self.asker = asker_name(session, manifest.node)
        self.placement = Placement.of(self.spec.placement)
        self.request_ids = itertools.count(secrets.randbits(48))
        replicas = [
            Replica(expert, node) for expert, nodes in enumerate(self.spec.placement) for node in nodes
        ]
        key = layer_key(manifest.mesh, manifest.model_hash, layer)
        self.liveliness = Liveliness(session, key, replicas)
        self._priced: tuple[Links, IdealPrice] | None = None

    def close(self) -> None:
        """Stop watching the mesh; the session stays open."""
        self.liveliness.close()

    def carrier(self, links: Links, traffic: Traffic) -> "MeshCarrier":
        """Return the carrier of one query, over these simulated links; it counts its bytes in ``traffic``."""
        return MeshCarrier(self, links, traffic)

    def is_here(self, replica: Replica) -> bool:
        """Return whether a replica runs in this process."""
        return replica.node == self.manifest.node and replica.expert in self.own

    def nodes_alive(self, alive: frozenset[Replica] | None = None) -> frozenset[int]:
        """Return the nodes all of whose experts are alive."""
        alive = self.liveliness.alive if alive is None else alive
        nodes = {node for nodes in self.spec.placement for node in nodes}
        return frozenset(
            node for node in nodes if all(Replica(e, node) in alive for e in self.spec.experts_on(node))
        )

    def ideal_price(self, links: Links) -> IdealPrice:
        """Return what bits cost over these links; computed once as long as the links stay the same."""
        priced = self._priced
        if priced is None or priced[0] is not links:
            self._priced = priced = links, IdealPrice(links)
        return priced[1]


class MeshCarrier:
    """Brings the payloads of one query to the experts of a mesh, and their outputs back.

    Over ideal links an expert gets the payload as it is, and the price is that of its bits at the Shannon
    rate of the links as observed. A payload whose link carries less in truth does not arrive (an outage).
    Over analog links an expert gets what a receiver would get at the link's true SNR (`receive_analog`), and
    the price is that of the airtime. Outputs come back without error.

    Args:
        layer: the experts.
        links: the simulated links that price the transfers, as they are and as observed.
        traffic: where bytes are counted.
    """

    def __init__(self, layer: MeshLayer, links: Links, traffic: Traffic) -> None:
        self.links, self.traffic, self._layer = links, traffic, layer

    def payload_bits(self, payload_T: NDArray[np.float32]) -> int:
        """Return the bits of one item: its payload on the wire, and its norm."""
        return int(payload_T[0].size) * BYTES_PER_VALUE[self._layer.wire_type] * 8 + NORM_BITS

    def price(
        self, payload_T: NDArray[np.float32], slot: Slot, subcarrier_NN: NDArray[np.int64] | None = None
    ) -> Price:
        """Return joules and seconds over the simulated links, whoever is alive."""
        if not self._layer.is_analog:
            return self._layer.ideal_price(self.links)(slot, subcarrier_NN)
        uses = partial(analog_channel_uses, payload_T[0].size)
        return AirtimePrice(self.links.radio, self.links)(slot, uses)

    def can_ask(self, slot: Slot) -> NDArray[np.bool_]:
        """Return (E, R): True for replicas alive and not silent of late, and for the client's own."""
        layer = self._layer
        askable = layer.liveliness.askable
        can_ask_ER = np.zeros(slot.placement.node_ER.shape, np.bool_)
        for (expert, rank), node in np.ndenumerate(slot.placement.node_ER):
            replica = Replica(expert, int(node))
            can_ask_ER[expert, rank] = replica in askable or layer.is_here(replica)
        return can_ask_ER

    def carry(self, transfer: Transfer[NDArray[np.float32]]) -> Delivery[NDArray[np.float32]]:
        """Ask every replica once for all of its items; what has not come by the deadline is left out."""
        layer, deadline_s = self._layer, transfer.deadline_s
        end_s = time.monotonic() + deadline_s
        items = _items_of(transfer if layer.is_analog else self._without_outages(transfer))
        replies: queue.SimpleQueue[tuple[Replica, zenoh.Reply | None]] = queue.SimpleQueue()
        waiting: dict[Replica, int] = {}
        for replica in items:
            if not layer.is_here(replica):
                waiting[replica] = next(layer.request_ids)
                received_I = self._received(transfer, items[replica], replica.node)
                self._send(replica, waiting[replica], received_I, deadline_s, replies)
        outputs: Outputs = {
            replica: layer.own[replica.expert](transfer.payload_T[item_I])
            for replica, item_I in items.items()
            if replica not in waiting
        }
        while waiting:
            try:
                replica, reply = replies.get(timeout=max(end_s - time.monotonic(), 0.0))
            except queue.Empty:
                break
            if reply is None:  # no more replies will come from this one
                waiting.pop(replica, None)
                continue
            output_I = self._read(reply, replica, waiting.get(replica), len(items[replica]))
            if output_I is not None:
                outputs[replica] = output_I
                waiting.pop(replica, None)
        for replica in waiting:
            _log.warning("%s did not answer within %.3f s", _called(replica), deadline_s)
            layer.liveliness.silent(replica)
        return self._delivery(items, outputs)

    def _without_outages(self, transfer: Transfer[NDArray[np.float32]]) -> Transfer[NDArray[np.float32]]:
        """Return the pairs whose ideal link carries the rate chosen for it; the others' nodes are alive."""
        arrives_P = self._layer.ideal_price(self.links).arrives_P(transfer)
        if arrives_P.all():
            return transfer
        for node in np.unique(transfer.node_P[~arrives_P]).tolist():
            _log.info("outage: the link to node %d carries less than was thought", node)
        return transfer.of_pairs(arrives_P)

    def _received(
        self, transfer: Transfer[NDArray[np.float32]], item_I: NDArray[np.int64], node: int
    ) -> NDArray[np.float32]:
        """Return what the receiver of a node gets of its items."""
        payload_I = transfer.payload_T[item_I]
        if not self._layer.is_analog:
            return payload_I
        snr_db_I1 = self.links.snr_db(transfer.slot.source_T[item_I], [node])
        return receive_analog(payload_I, snr_db_I1[:, 0], self._layer.random)

    def _send(
        self,
        replica: Replica,
        request_id: int,
        payload_I: NDArray[np.float32],
        deadline_s: float,
        replies: "queue.SimpleQueue[tuple[Replica, zenoh.Reply | None]]",
    ) -> None:
        manifest, layer = self._layer.manifest, self._layer.spec.layer
        frame = encode(
            Frame(
                Kind.PAYLOADS,
                {"payload": payload_I},
                request_id,
                manifest.model_hash,
                layer,
                replica.expert,
                int(deadline_s * 1000),
                self._layer.wire_type,
                self._layer.spec.hashes[replica.expert],
            )
        )
        self.traffic.sent_bytes += len(frame)
        ask(
            self._layer.session,
            expert_key(manifest.mesh, manifest.model_hash, layer, *replica),
            self._layer.asker,
            frame,
            deadline_s + SILENCE_S,  # longer than our own wait: silence must not look like a refusal
            lambda reply: replies.put((replica, reply)),
            _called(replica),
        )

    def _read(
        self, reply: zenoh.Reply, replica: Replica, request_id: int | None, rows: int
    ) -> NDArray[np.float32] | None:
        if reply.ok is None:
            _log.warning("%s refused: %r", _called(replica), refusal_of(reply))
            return None
        data, spec = reply.ok.payload.to_bytes(), self._layer.spec
        self.traffic.received_bytes += len(data)
        try:
            frame = decode(data)
            answered = (frame.kind, frame.request_id, frame.expert, frame.layer, frame.model_hash)
            model_hash = self._layer.manifest.model_hash
            if answered != (Kind.OUTPUTS, request_id, replica.expert, spec.layer, model_hash):
                raise FrameError("it answers another request")
            if frame.expert_hash != (expected := spec.hashes[replica.expert]):
                raise FrameError(f"its expert has hash {frame.expert_hash}; expected {expected}")
            output_I = frame.array("output", np.float32, (rows, *spec.output.shape))
            if not np.isfinite(output_I).all():
                raise FrameError("it is not finite")
        except FrameError as error:
            _log.warning("%s sent a bad reply: %s", _called(replica), error)
            return None
        return output_I

    def _delivery(
        self, items: dict[Replica, NDArray[np.int64]], outputs: Outputs
    ) -> Delivery[NDArray[np.float32]]:
        answered = sorted(outputs)
        counts = [len(items[replica]) for replica in answered]
        nothing = np.empty((0, *self._layer.spec.output.shape), np.float32)
        return Delivery(
            np.concatenate([np.empty(0, np.int64), *(items[replica] for replica in answered)]),
            np.repeat(np.array([replica.expert for replica in answered], np.int64), counts),
            np.concatenate([nothing, *(outputs[replica] for replica in answered)]),
        )


def _items_of(transfer: Transfer[NDArray[np.float32]]) -> dict[Replica, NDArray[np.int64]]:
    """Return the items of each replica that is asked, in the order of experts and nodes."""
    order_P = np.lexsort((transfer.node_P, transfer.expert_P))
    expert_P, node_P = transfer.expert_P[order_P], transfer.node_P[order_P]
    changes_P = (expert_P[1:] != expert_P[:-1]) | (node_P[1:] != node_P[:-1])
    first = [0, *(np.flatnonzero(changes_P) + 1).tolist()][: len(order_P)]
    item_I = np.split(transfer.item_P[order_P], first[1:])
    return {
        Replica(expert, node): items
        for expert, node, items in zip(expert_P[first].tolist(), node_P[first].tolist(), item_I, strict=False)
    }


def _called(replica: Replica) -> str:
    return f"expert {replica.expert} at node {replica.node}"
