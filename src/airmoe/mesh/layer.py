"""The experts of one layer of a mesh, as one client knows them.

Shape suffixes: E experts, R replicas.
"""

import itertools
import secrets
from collections.abc import Callable, Mapping

import numpy as np
import zenoh
from numpy.typing import NDArray

from airmoe.dispatch import IdealPrice
from airmoe.links import Links
from airmoe.manifest import Manifest, MeshTransmission
from airmoe.mesh.frame import WireType
from airmoe.mesh.keys import Replica, layer_key
from airmoe.mesh.liveliness import Liveliness
from airmoe.mesh.peers import Peers
from airmoe.mesh.wire import Wire
from airmoe.scheduling import Placement, Slot

Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class MeshLayer:
    """The experts of one layer as a client reaches them.

    The client's own experts, if it has some, run in this process and cost nothing. The others are found by
    their liveliness tokens.

    ``placement`` says where the experts are, ``here`` which replicas run in this process, ``liveliness``
    which are alive, ``peers`` how long each node usually takes and which are suspected.

    Args:
        session: an open Zenoh session.
        manifest: of the client that asks.
        layer: number of the layer.
        own: the networks of the client's own experts in this layer, by number.
        wire_type: how values travel.
        transmission: "ideal" or "analog" links.
        random: the generator that draws the noise.
        peers: what is known of the nodes; the layers of a model share it.
        wire: the way to the nodes; the layers of a model share it.
        admits: whether a node belongs to the mesh.
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
        peers: Peers[int],
        wire: Wire,
        admits: Callable[[int], bool],
    ) -> None:
        self.session, self.manifest, self.spec, self.own = session, manifest, manifest.layer(layer), own
        self.here = {Replica(expert, manifest.node) for expert in own}
        self.wire_type, self.is_analog, self.random = wire_type, transmission == "analog", random
        self.wire = wire
        self.placement = Placement.of(self.spec.placement)
        self.request_ids = itertools.count(secrets.randbits(48))
        replicas = [
            Replica(expert, node) for expert, nodes in enumerate(self.spec.placement) for node in nodes
        ]
        key = layer_key(manifest.mesh, manifest.model_hash, layer)
        self.peers = peers
        self.liveliness = Liveliness(session, key, replicas, self._came, lambda replica: admits(replica.node))
        self._priced: tuple[Links, IdealPrice] | None = None
        self._standing: Slot | None = None

    def close(self) -> None:
        """Stop watching the mesh; the session stays open."""
        self.liveliness.close()

    def _came(self, replica: Replica) -> None:
        self.peers.back(replica.node)

    @property
    def nodes(self) -> frozenset[int]:
        """The nodes that hold an expert."""
        return frozenset(node for nodes in self.spec.placement for node in nodes)

    def nodes_alive(self) -> frozenset[int]:
        """Return the nodes all of whose experts are alive."""
        alive = self.liveliness.alive
        return frozenset(
            node for node in self.nodes if all(Replica(e, node) in alive for e in self.spec.experts_on(node))
        )

    def slot(self, items: int, links: Links, bits: float = 0.0) -> Slot:
        """Return what a policy sees of items of this client; one object as long as nothing about it changes.

        Args:
            items: T.
            links: the links between the nodes.
            bits: of each item's payload.
        """
        slot, observed = self._standing, links.observed
        if slot is None or slot.links is not observed or len(slot.source_T) != items:
            source_T = np.full(items, self.manifest.node, np.int64)
            slot = Slot(source_T, self.placement, observed, self.spec.layer)
        self._standing = slot = slot.with_bits(bits)
        return slot

    def ideal_price(self, links: Links) -> IdealPrice:
        """Return what bits cost over these links; computed once as long as the links stay the same."""
        priced = self._priced
        if priced is None or priced[0] is not links:
            self._priced = priced = links, IdealPrice(links)
        return priced[1]
