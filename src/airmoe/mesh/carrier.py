"""The mesh as a carrier: one request per replica and batch, another expert beside a late one.

Shape suffixes: T items, I some of them, E experts, R replicas, N nodes, P (item, expert) pairs sorted by
expert.
"""

import time
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from airmoe.dispatch import (
    NORM_BITS,
    AirtimePrice,
    Delivery,
    Price,
    Transfer,
    analog_channel_uses,
)
from airmoe.links import Links
from airmoe.links.analog import receive_analog
from airmoe.mesh.extraction import PIECE
from airmoe.mesh.frame import BYTES_PER_VALUE
from airmoe.mesh.keys import Replica
from airmoe.mesh.layer import MeshLayer
from airmoe.mesh.log import about_node, mesh_log
from airmoe.mesh.requests import Request, Requests, Traffic, called
from airmoe.scheduling import Slot

Outputs = list[tuple[int, NDArray[np.int64], NDArray[np.float32]]]
"""Expert, items and outputs."""


class _Round(NamedTuple):
    """The requests of one transfer, and the items that an outage kept from being sent."""

    asked: list[Request]
    lost_I: NDArray[np.int64]


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
        self.links, self._layer = links, layer
        self._requests = Requests(layer, traffic)
        self._rounds: list[_Round] = []
        self._came_TE: NDArray[np.bool_] | None = None

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
        """Return (E, R): True for replicas alive at peers that are not suspected, and for the own ones."""
        layer, alive = self._layer, self._layer.liveliness.alive
        can_ask_ER = np.zeros(slot.placement.node_ER.shape, np.bool_)
        for (expert, rank), node in np.ndenumerate(slot.placement.node_ER):
            replica = Replica(expert, int(node))
            can_ask_ER[expert, rank] = layer.is_here(replica) or (
                replica in alive and layer.peers.can_ask(replica.node)
            )
        return can_ask_ER

    def carry(self, transfer: Transfer[NDArray[np.float32]]) -> Delivery[NDArray[np.float32]]:
        """Ask every replica once for all of its items, and wait until each has answered or is late.

        Answers to requests of earlier rounds count when they come. If one makes the items whole that are
        asked about again, the wait is over. With nothing to ask, the next such answer is awaited.
        """
        layer, end_s = self._layer, time.monotonic() + transfer.deadline_s
        arrives_P = self._arrives_P(transfer)
        items, lost_I = _items_of(transfer.of_pairs(arrives_P)), transfer.item_P[~arrives_P]
        here = [replica for replica in items if layer.is_here(replica)]
        asked = [
            self._requests.send(
                replica, item_I, self._received(transfer, item_I, replica.node), transfer.deadline_s
            )
            for replica, item_I in items.items()
            if replica not in here
        ]
        outputs: Outputs = []
        for replica in here:
            outputs += self._own(transfer, replica.expert, items[replica], end_s)
        self._rounds.append(_Round(asked, lost_I))
        outputs += self._awaited(asked, end_s) if len(transfer.item_P) else self._late_answer(end_s)
        now_s = time.monotonic()
        for request in asked:
            if request in self._requests.open and not request.is_trial:
                waited_s = now_s - end_s + transfer.deadline_s
                what = "is late" if request.late_s <= now_s else "may not be waited for any longer"
                whom, whose = called(request.replica), about_node(request.replica.node)
                mesh_log.warning("%s %s: no answer within %.3f s", whom, what, waited_s, extra=whose)
        return self._delivery(transfer, outputs)

    def close(self) -> None:
        """Withdraw the requests that are late, once the query is answered."""
        self._requests.close()

    def _awaited(self, asked: list[Request], end_s: float) -> Outputs:
        """Return what comes until each request of this round is answered or late, or its items are whole."""
        outputs: Outputs = []
        while awaited := [request for request in asked if request in self._requests.open]:
            now_s = time.monotonic()
            for request in awaited:
                if request.late_s <= now_s and not self._layer.peers.may_ask_beside(request.replica.node):
                    request.late_s = end_s
            until_s = min(max(request.late_s for request in awaited), end_s)
            if until_s <= now_s or self._is_whole(awaited):
                break
            outputs += _outputs_of(self._requests.answer(until_s))
        return outputs

    def _late_answer(self, end_s: float) -> Outputs:
        """Return the first answer to any request that is still open."""
        outputs: Outputs = []
        while not outputs and self._requests.open and time.monotonic() < end_s:
            outputs += _outputs_of(self._requests.answer(end_s))
        return outputs

    def _is_whole(self, awaited: list[Request]) -> bool:
        """Return whether everything came that an earlier round asked for the items that are awaited."""
        item_I = np.concatenate([request.item_I for request in awaited])
        for earlier in self._rounds[:-1]:
            asked_I = np.concatenate([earlier.lost_I, *(request.item_I for request in earlier.asked)])
            lacking = (request.item_I for request in earlier.asked if request.output_I is None)
            lacking_I = np.concatenate([earlier.lost_I, *lacking])
            item_I = item_I[~np.isin(item_I, asked_I) | np.isin(item_I, lacking_I)]
        return not item_I.size

    def _own(
        self, transfer: Transfer[NDArray[np.float32]], expert: int, item_I: NDArray[np.int64], end_s: float
    ) -> Outputs:
        """Return what an expert of the client's own gives, as far as time allows; the first piece always."""
        outputs: Outputs = []
        for begin in range(0, len(item_I), PIECE):
            if begin and time.monotonic() >= end_s:
                break
            piece_I = item_I[begin : begin + PIECE]
            outputs.append((expert, piece_I, self._layer.own[expert](transfer.payload_T[piece_I])))
        return outputs

    def _arrives_P(self, transfer: Transfer[NDArray[np.float32]]) -> NDArray[np.bool_]:
        """Return (P,): False where an ideal link carries less than the rate chosen; that node is alive."""
        if self._layer.is_analog:
            return np.ones(len(transfer.item_P), np.bool_)
        arrives_P = self._layer.ideal_price(self.links).arrives_P(transfer)
        for node in np.unique(transfer.node_P[~arrives_P]).tolist():
            outage = "outage: the link to node %d carries less than was thought"
            mesh_log.info(outage, node, extra=about_node(node))
        return arrives_P

    def _received(
        self, transfer: Transfer[NDArray[np.float32]], item_I: NDArray[np.int64], node: int
    ) -> NDArray[np.float32]:
        """Return what the receiver of a node gets of its items."""
        payload_I = transfer.payload_T[item_I]
        if not self._layer.is_analog:
            return payload_I
        snr_db_I1 = self.links.snr_db(transfer.slot.source_T[item_I], [node])
        return receive_analog(payload_I, snr_db_I1[:, 0], self._layer.random)

    def _delivery(
        self, transfer: Transfer[NDArray[np.float32]], outputs: Outputs
    ) -> Delivery[NDArray[np.float32]]:
        """Return what came, each pair once: a replica may answer after another one did."""
        spec = self._layer.spec
        if self._came_TE is None:
            self._came_TE = np.zeros((len(transfer.payload_T), spec.experts), np.bool_)
        new: Outputs = [(0, np.empty(0, np.int64), np.empty((0, *spec.output.shape), np.float32))]
        for expert, item_I, output_I in sorted(outputs, key=lambda each: each[0]):
            first_I = ~self._came_TE[item_I, expert]
            self._came_TE[item_I, expert] = True
            new.append((expert, item_I[first_I], output_I[first_I]))
        return Delivery(
            np.concatenate([item_I for _, item_I, _ in new]),
            np.concatenate([np.full(len(item_I), expert, np.int64) for expert, item_I, _ in new]),
            np.concatenate([output_I for _, _, output_I in new]),
            pending=bool(self._requests.open),
        )


def _outputs_of(request: Request | None) -> Outputs:
    if request is None or request.output_I is None:
        return []
    return [(request.replica.expert, request.item_I, request.output_I)]


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
