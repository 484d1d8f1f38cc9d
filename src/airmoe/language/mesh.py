"""The experts of a language model in a mesh, as a source of texts reaches them.

Attention, norms and routers run in this process; each layer asks the nodes anew. What is late or lost is
asked of a replica, or left out of the token's mixture, and the text goes on.

Shape suffixes: T tokens, E experts, R replicas, N nodes, P (token, expert) pairs sorted by expert.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
import zenoh
from numpy.typing import NDArray
from torch import Tensor

from airmoe.checks import number_within
from airmoe.dispatch import Carrier, Delivery, Price, Transfer, WithoutNodes
from airmoe.errors import InvalidInputError, RunFolderError
from airmoe.files import AnyPath, as_path
from airmoe.language.calls import LayerCall, left_out
from airmoe.links import Links, LinkSource
from airmoe.manifest import experts_in_words, read_manifest
from airmoe.mesh.carrier import MeshCarrier
from airmoe.mesh.client import LONGEST_DEADLINE_S
from airmoe.mesh.frame import WireType
from airmoe.mesh.identity import Identity
from airmoe.mesh.layers import MeshLayers
from airmoe.mesh.peers import HEDGE_S
from airmoe.mesh.requests import Traffic
from airmoe.scheduling import Placement, Policy, Slot
from airmoe.scheduling.parsing import as_policy


@dataclass(frozen=True)
class TensorsOverMesh:
    """A mesh's carrier for tensors: hidden states leave and come back as float32.

    Args:
        carrier: of one layer and batch.
    """

    carrier: MeshCarrier

    @property
    def links(self) -> Links:
        """The links that price the transfers."""
        return self.carrier.links

    def payload_bits(self, payload_T: Tensor) -> int:
        """Return the bits of one token on the wire."""
        return self.carrier.payload_bits(_array(payload_T))

    def price(self, payload_T: Tensor, slot: Slot, subcarrier_NN: NDArray[np.int64] | None = None) -> Price:
        """Return joules and seconds over the simulated links."""
        return self.carrier.price(_array(payload_T), slot, subcarrier_NN)

    def can_ask(self, slot: Slot) -> NDArray[np.bool_]:
        """Return (E, R), True for the replicas that can be asked."""
        return self.carrier.can_ask(slot)

    def carry(self, transfer: Transfer[Tensor]) -> Delivery[Tensor]:
        """Ask the nodes."""
        arrays: Any = replace(transfer, payload_T=_array(transfer.payload_T))  # type: ignore[arg-type]
        delivery = self.carrier.carry(arrays)
        output_P = torch.from_numpy(delivery.output_P).to(transfer.payload_T)
        return Delivery(delivery.item_P, delivery.expert_P, output_P, delivery.pending)


def _array(payload_T: Tensor) -> NDArray[np.float32]:
    return payload_T.detach().float().cpu().numpy()


@dataclass
class MeshCalls:
    """How the batches of one text are served by a mesh: `airmoe.language.calls.Calls`.

    Args:
        source: reaches the nodes.
        policy: who chooses experts; None for what the model has. A scheduler of the mesh decides by a joint
            policy; where none does, the policy's ``fallback`` decides here.
        deadline_s: seconds for each batch in each layer.
        without: nodes whose experts are left out.

    Attributes:
        traffic: the bytes so far, as framed, and the node whose scheduler decided last.
    """

    source: MeshSource
    policy: Policy | None
    deadline_s: float
    without: frozenset[int]
    traffic: Traffic = field(default_factory=Traffic)

    @contextmanager
    def __call__(self, number: int) -> Iterator[LayerCall]:
        """Serve one batch in a layer; afterwards what is late is withdrawn."""
        self.source.mesh.refuse_closed()
        mesh, end_s = self.source.mesh, time.monotonic() + self.deadline_s
        inner = MeshCarrier(mesh.layers[number - 1], mesh.links(), self.traffic)
        carrier: Carrier[Tensor, Tensor] = TensorsOverMesh(inner)
        if self.without:
            carrier = WithoutNodes(carrier, self.without)
        policy = self.policy and mesh.policy_of(number - 1, self.policy, end_s, self.traffic)
        with closing(inner):
            yield LayerCall(policy, carrier, self.deadline_s)


class MeshSource:
    """The experts of all layers of a model in a mesh, for texts that rest at one node.

    ``node`` is that node, ``placements`` says where the experts of each layer are.

    Args:
        client_folder: ``clients/<id>`` or ``clients/server`` of a run, or a copy of it.
        connect: addresses of one or more nodes, or files of them; the source learns of the others.
        links: the links between the nodes, or a source of links that is asked for each batch and layer;
            default the run's.
        wire_type: "float32", "float16" or "bfloat16" on the wire.
        session: an open session to use instead of opening one; it is left open.
        seed: of the noise of analog links, >= 0.
        hedge_s: seconds that a node may take, at least, before another expert is asked as well, 0.001 to
            3600.
        identity: who this source is; see `airmoe.mesh.Node`.

    Raises:
        RunFolderError: a file of the folder is missing or damaged.
        IdentityError: the identity is another node's, or does not hold now.
        AddressError: an address is malformed or not loopback.
        InvalidInputError: a folder that no text can rest at, or as `airmoe.mesh.layers.MeshLayers`.
    """

    def __init__(
        self,
        client_folder: AnyPath,
        connect: Sequence[AnyPath] = (),
        *,
        links: Links | LinkSource | None = None,
        wire_type: WireType = "float32",
        session: zenoh.Session | None = None,
        seed: int = 0,
        hedge_s: float = HEDGE_S,
        identity: Identity | None = None,
    ) -> None:
        self.folder = as_path(client_folder)
        self.manifest = manifest = read_manifest(self.folder)
        if manifest.source is None:
            expected = f"one where texts may rest: this one serves {experts_in_words(manifest.serves)}"
            if manifest.asks is not None:
                expected = "one of a language model: this one asks about images, see airmoe predict"
            raise InvalidInputError("client_folder", str(client_folder), expected)
        numbers = [layer.layer for layer in manifest.layers]
        if numbers != list(range(1, len(numbers) + 1)):
            raise RunFolderError(
                f"{self.folder} has layers {numbers}; expected 1 to {len(numbers)}, in order"
            )
        self.node = manifest.node
        self.mesh = MeshLayers(
            self.folder,
            manifest,
            manifest.layers_asked,
            connect,
            links=links,
            wire_type=wire_type,
            session=session,
            seed=seed,
            hedge_s=hedge_s,
            identity=identity,
        )
        self.placements: list[Placement] = [layer.placement for layer in self.mesh.layers]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the mesh. Closing twice does no harm."""
        self.mesh.close()

    def wait_for_nodes(self, nodes: int = 1, timeout_s: float = 5.0) -> int:
        """Wait until at least ``nodes`` nodes serve all their experts; return how many do.

        Raises:
            NoNodeReachableError: fewer were found in time.
        """
        return self.mesh.wait_for_nodes(nodes, timeout_s)

    def wait_for_all(self, timeout_s: float = 5.0, *, schedulers: bool = False) -> bool:
        """Wait until all nodes serve, and a scheduler where asked for; return whether they do."""
        return self.mesh.wait_for_all(timeout_s, schedulers=schedulers)

    def nodes_gone(self) -> list[int]:
        """Return the nodes that hold experts and do not serve all of them now; this one never is."""
        return sorted(self.mesh.nodes_placed - self.mesh.nodes_alive() - {self.node})

    def calls(
        self,
        policy: Policy | str | None = None,
        *,
        deadline_s: float = 2.0,
        without: Collection[int] = (),
    ) -> MeshCalls:
        """Return how the batches of one text are served.

        Args:
            policy: who chooses experts, or its text; default what the model has.
            deadline_s: seconds for each batch in each layer, 0 to 3600.
            without: nodes whose owners' experts are left out; not the one where the text rests.

        Raises:
            InvalidInputError: a number out of range, or a joint policy without ``fallback``.
            MeshError: the source is closed.
        """
        self.mesh.refuse_closed()
        number_within("deadline_s", deadline_s, 0, LONGEST_DEADLINE_S)
        nodes = left_out(without, self.manifest.nodes - 1, self.node)
        chosen = None if policy is None else as_policy(policy)
        if chosen is not None:
            self.mesh.prepare(chosen)
        return MeshCalls(self, chosen, deadline_s, nodes)
