"""A second node asked for the same output: what agrees counts, what does not names both nodes.

Shape suffixes: T items, I some of them, E experts, R replicas.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from airmoe.mesh.keys import Replica
from airmoe.mesh.layer import MeshLayer
from airmoe.mesh.log import about_node, mesh_log
from airmoe.mesh.replies import rounding_of
from airmoe.mesh.requests import Outputs, Request, Requests
from airmoe.scheduling.placement import NOWHERE


@dataclass(eq=False)
class _Pair:
    """Two requests for one output."""

    first: Request
    second: Request


@dataclass(eq=False)
class Verification:
    """The pairs of requests of one query.

    Where both nodes of a pair answer, their output counts if it is the same up to rounding. If it is not,
    nobody can tell which node is wrong: neither counts, and neither is asked again for this query. Where one
    of them does not answer, the other's output counts as not verified.

    Attributes:
        layer: the experts.
        requests: of the query.
    """

    layer: MeshLayer
    requests: Requests
    _verified: list[tuple[int, NDArray[np.int64]]] = field(default_factory=list)
    _pairs: dict[Request, _Pair] = field(default_factory=dict)
    _disputed: set[Replica] = field(default_factory=set)

    def __post_init__(self) -> None:
        alive = self.layer.liveliness.alive
        nodes = self.layer.peers.askable({node for _, node in alive} - {self.layer.manifest.node})
        self._askable = {replica for replica in alive if replica.node in nodes}

    def other(self, replica: Replica) -> Replica | None:
        """Return whom to ask beside a replica; None where no other node can be asked."""
        held = (Replica(replica.expert, node) for node in self.layer.spec.placement[replica.expert])
        others = (other for other in held if other != replica and other in self._askable - self._disputed)
        return next(others, None)

    def other_node_ER(self, node_ER: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the node that would be asked beside each replica, -1 where none can be."""
        other_ER = np.full(node_ER.shape, NOWHERE)
        for (expert, rank), node in np.ndenumerate(node_ER):
            if node not in (NOWHERE, self.layer.manifest.node):
                other = self.other(Replica(expert, int(node)))
                other_ER[expert, rank] = NOWHERE if other is None else other.node
        return other_ER

    def disputed_ER(self, node_ER: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which replicas contradicted another one."""
        disputed_ER = np.zeros(node_ER.shape, np.bool_)
        for expert, node in self._disputed:
            disputed_ER[expert] |= node_ER[expert] == node
        return disputed_ER

    def verified_TE(self, arrived_TE: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which of the outputs that arrived two nodes gave alike."""
        verified_TE = np.zeros_like(arrived_TE)
        for expert, item_I in self._verified:
            verified_TE[item_I, expert] = True
        return verified_TE & arrived_TE

    def pair(self, first: Request, second: Request) -> None:
        """Have the answer to one request wait for that to another one."""
        self._pairs[first] = self._pairs[second] = _Pair(first, second)

    def outputs_of(self, request: Request) -> Outputs:
        """Return what counts now that a request was answered, or will not be."""
        pair = self._pairs.get(request)
        if pair is None:
            return request.outputs
        still_open = self.requests.open
        if pair.first in still_open or pair.second in still_open:
            return []
        return self._closed(pair)

    def alone(self, asked: Iterable[Request]) -> Outputs:
        """Return the outputs of requests whose other one is not waited for any longer."""
        outputs: Outputs = []
        for request in asked:
            if request in self._pairs:
                outputs += self._closed(self._pairs[request])
        return outputs

    def _closed(self, pair: _Pair) -> Outputs:
        first, second = pair.first, pair.second
        del self._pairs[first], self._pairs[second]
        if first.output_I is None or second.output_I is None:
            return [*first.outputs, *second.outputs]
        replica, items = first.replica, len(first.item_I)
        furthest = float(np.abs(first.output_I - second.output_I).max(initial=0.0))
        if furthest <= rounding_of(first.frame) * max(1.0, float(np.abs(first.output_I).max(initial=0.0))):
            self._verified.append((replica.expert, first.item_I))
            return first.outputs
        mesh_log.warning(
            "expert %d: nodes %d and %d contradict each other about %d items, by up to %.3g; neither counts",
            *(replica.expert, replica.node, second.replica.node, items, furthest),
            extra=about_node(f"{replica.node} or {second.replica.node}"),
        )
        self._disputed |= {replica, second.replica}
        first.output_I = second.output_I = None
        return []
