"""The mesh as a carrier: one message per node and batch, another expert beside a late one.

Shape suffixes: T items, I some of them, E experts, R replicas, N nodes, P (item, expert) pairs sorted by
expert.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
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
from airmoe.mesh.requests import Asked, Outputs, Request, Requests, Traffic, called
from airmoe.mesh.verification import Verification
from airmoe.scheduling import Slot
from airmoe.scheduling.placement import NOWHERE


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
        verifies: whether a second node is asked for every output; see `Verification`.

    ``verification`` says what two nodes agreed on; None where it is not asked for.
    """

    def __init__(self, layer: MeshLayer, links: Links, traffic: Traffic, *, verifies: bool = False) -> None:
        self.links, self._layer = links, layer
        self._requests = Requests(layer, traffic)
        self.verification = Verification(layer, self._requests) if verifies else None
        self._rounds: list[_Round] = []
        self._came_TE: NDArray[np.bool_] | None = None

    def payload_bits(self, payload_T: NDArray[np.float32]) -> int:
        """Return the bits of one item: its payload on the wire, and its norm."""
        return int(payload_T[0].size) * BYTES_PER_VALUE[self._layer.wire_type] * 8 + NORM_BITS

    def price(
        self, payload_T: NDArray[np.float32], slot: Slot, subcarrier_NN: NDArray[np.int64] | None = None
    ) -> Price:
        """Return joules and seconds over the simulated links, whoever is alive.

        What is charged contains the second request of an output that is verified. Nodes that contradicted
        each other are out of reach.
        """
        if self._layer.is_analog:
            uses = partial(analog_channel_uses, payload_T[0].size)
            return AirtimePrice(self.links.radio, self.links)(slot, uses)
        price = self._layer.ideal_price(self.links)(slot, subcarrier_NN)
        if self.verification is None:
            return price
        placed_ER = slot.placement.node_ER
        rank_TE = (slot.node_TE[:, :, np.newaxis] == placed_ER).argmax(axis=2)
        rank_of = np.arange(len(placed_ER)), rank_TE
        other_TE = self.verification.other_node_ER(placed_ER)[rank_of]
        second_TE = (other_TE != NOWHERE) & ~slot.at_home_TE
        second = slot.served_by(np.where(second_TE, other_TE, slot.node_TE))
        cost = self._layer.ideal_price(self.links)(second, subcarrier_NN).charged
        quoted = price.quoted.where(~self.verification.disputed_ER(placed_ER)[rank_of])
        return Price(quoted, price.charged.plus(cost, second_TE & cost.reachable_TE))

    def can_ask(self, slot: Slot) -> NDArray[np.bool_]:
        """Return (E, R): True for replicas alive at peers that are not suspected, and for the own ones."""
        layer, placement = self._layer, slot.placement
        alive = layer.liveliness.alive
        nodes = layer.peers.askable({node for _, node in alive})
        can_ask = [
            (expert, node) in layer.here or (node in nodes and (expert, node) in alive)
            for expert, nodes_R in enumerate(placement.node_ER.tolist())
            for node in nodes_R
        ]
        return np.array(can_ask).reshape(placement.node_ER.shape)

    def carry(self, transfer: Transfer[NDArray[np.float32]]) -> Delivery[NDArray[np.float32]]:
        """Ask every replica once for all of its items, and wait until each has answered or is late.

        Answers to requests of earlier rounds count when they come. If one makes the items whole that are
        asked about again, the wait is over. With nothing to ask, the next such answer is awaited.
        """
        layer, end_s = self._layer, time.monotonic() + transfer.deadline_s
        arrives_P = self._arrives_P(transfer)
        lost_I = transfer.item_P[~arrives_P]
        items = _items_of(transfer.of_pairs(arrives_P) if lost_I.size else transfer)
        here = [replica for replica in items if replica in layer.here]
        asked = self._send(transfer, {each: item_I for each, item_I in items.items() if each not in here})
        seconds = [] if self.verification is None else self._ask_second(transfer, asked)
        outputs: Outputs = []
        for replica in here:
            outputs += self._own(transfer, replica.expert, items[replica], end_s)
        self._rounds.append(_Round(asked, lost_I))
        if len(transfer.item_P):
            outputs += self._awaited(asked + seconds, end_s)
        else:
            outputs += self._late_answer(end_s)
        if self.verification is not None:
            outputs += self.verification.alone(asked)
        now_s = time.monotonic()
        for request in asked:
            is_late = request.late_s <= now_s
            # An extra request that is open and in time has become needless: a late answer came first.
            if request in self._requests.open and not request.is_trial and (is_late or now_s >= end_s):
                waited_s = now_s - end_s + transfer.deadline_s
                what = "is late" if is_late else "is no longer waited for"
                whom, whose = called([request]), about_node(request.replica.node)
                mesh_log.warning("%s %s: no answer within %.3f s", whom, what, waited_s, extra=whose)
        return self._delivery(transfer, outputs)

    def _send(
        self, transfer: Transfer[NDArray[np.float32]], items: Mapping[Replica, NDArray[np.int64]]
    ) -> list[Request]:
        """Ask replicas, all that one node holds at once."""
        of_node: dict[int, list[Asked]] = {}
        for (expert, node), item_I in items.items():
            payload_I = self._received(transfer, item_I, node)
            of_node.setdefault(node, []).append(Asked(expert, item_I, payload_I))
        requests = list[Request]()
        for node, asked in of_node.items():
            requests += self._requests.send(node, asked, transfer.deadline_s)
        return requests

    def _ask_second(self, transfer: Transfer[NDArray[np.float32]], asked: list[Request]) -> list[Request]:
        """Ask a second node for what was asked, where there is one and its link carries the items."""
        verification = self.verification
        assert verification is not None
        seconds = []
        for first in asked:
            other, item_I = verification.other(first.replica), first.item_I
            if other is not None and self._carries(transfer, other, item_I):
                seconds += self._send(transfer, {other: item_I})
                verification.pair(first, seconds[-1])
        return seconds

    def _carries(
        self, transfer: Transfer[NDArray[np.float32]], replica: Replica, item_I: NDArray[np.int64]
    ) -> bool:
        """Return whether a replica that the policy did not choose is reached by these items."""
        node_TE = transfer.slot.node_TE.copy()
        node_TE[item_I, replica.expert] = replica.node
        price = self._layer.ideal_price(self.links)(transfer.slot.served_by(node_TE), transfer.subcarrier_NN)
        expert_P, node_P = (np.full(len(item_I), number) for number in replica)
        sent = replace(transfer, item_P=item_I, expert_P=expert_P, node_P=node_P)
        reachable_P = price.quoted.reachable_TE[item_I, replica.expert]
        return bool((reachable_P & self._arrives_P(sent)).all())

    def _answered(self, until_s: float) -> Outputs:
        """Return what counts once the next request is answered, or will not be."""
        request = self._requests.answer(until_s)
        if request is None:
            return []
        return request.outputs if self.verification is None else self.verification.outputs_of(request)

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
            outputs += self._answered(until_s)
        while self._requests.has_answers:
            outputs += self._answered(0.0)
        return outputs

    def _late_answer(self, end_s: float) -> Outputs:
        """Return the first answer to any request that is still open."""
        outputs: Outputs = []
        while not outputs and self._requests.open and time.monotonic() < end_s:
            outputs += self._answered(end_s)
        return outputs

    def _is_whole(self, awaited: list[Request]) -> bool:
        """Return whether everything came that an earlier round asked for the items that are awaited."""
        if len(self._rounds) == 1:
            return False
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
        if arrives_P.all():
            return arrives_P
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
        new: Outputs = []
        for expert, item_I, output_I in sorted(outputs, key=lambda each: each[0]):
            first_I = ~self._came_TE[item_I, expert]
            self._came_TE[item_I, expert] = True
            whole = bool(first_I.all())  # nearly always: nothing needs to be copied
            new.append((expert, item_I, output_I) if whole else (expert, item_I[first_I], output_I[first_I]))
        if not new:
            new = [(0, np.empty(0, np.int64), np.empty((0, *spec.output.shape), np.float32))]
        return Delivery(
            np.concatenate([item_I for _, item_I, _ in new]),
            np.concatenate([np.full(len(item_I), expert, np.int64) for expert, item_I, _ in new]),
            np.concatenate([output_I for _, _, output_I in new]),
            pending=bool(self._requests.open),
        )


def _items_of(transfer: Transfer[NDArray[np.float32]]) -> dict[Replica, NDArray[np.int64]]:
    """Return the items of each replica that is asked, in the order of experts and nodes."""
    if len(transfer.item_P) == 1:
        return {Replica(int(transfer.expert_P[0]), int(transfer.node_P[0])): transfer.item_P}
    order_P = np.lexsort((transfer.node_P, transfer.expert_P))
    expert_P, node_P = transfer.expert_P[order_P], transfer.node_P[order_P]
    changes_P = (expert_P[1:] != expert_P[:-1]) | (node_P[1:] != node_P[:-1])
    first = [0, *(np.flatnonzero(changes_P) + 1).tolist()][: len(order_P)]
    item_I = np.split(transfer.item_P[order_P], first[1:])
    return {
        Replica(expert, node): items
        for expert, node, items in zip(expert_P[first].tolist(), node_P[first].tolist(), item_I, strict=False)
    }
