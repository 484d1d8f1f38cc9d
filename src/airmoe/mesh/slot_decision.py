"""One decision of a joint policy for the items of all sources of a slot. This module knows no network.

Shape suffixes: T items, E experts, N nodes.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from airmoe.dispatch import NORM_BITS
from airmoe.errors import FrameError, InvalidInputError
from airmoe.links import Links
from airmoe.manifest import Manifest
from airmoe.mesh.frame import Frame
from airmoe.mesh.slot_messages import (
    SlotReply,
    SlotRequest,
    read_request,
    reply_arrays,
)
from airmoe.scheduling import Cost, Placement, Policy, Routing, Slot
from airmoe.scheduling.parsing import as_policy


class SlotDecision:
    """Decides by a joint policy, on the links as observed.

    Args:
        policy: a joint policy, or its text.
        manifest: of the node that offers to schedule.
        layer: number of the layer.
        links: the simulated links.

    Raises:
        InvalidInputError: the policy is not joint or cannot decide on these links.
    """

    def __init__(self, policy: Policy | str, manifest: Manifest, layer: int, links: Links) -> None:
        policy = as_policy(policy)
        if not policy.joint:
            raise InvalidInputError(
                "schedule", policy.name, "a joint policy, for example jesa:0.5:2; others decide at the source"
            )
        self.manifest, self.layer = manifest, manifest.layer(layer)
        self._policy, self._links = policy, links.observed
        self._placement = Placement.of(self.layer.placement)
        self._best_j_NN = self._links.energy_per_bit_j(self._links.best_subcarrier_NN)
        self._most_bits = self.layer.payload_values * 32 + NORM_BITS
        experts = self.layer.experts
        first = SlotRequest(
            manifest.node,
            np.array([nodes[0] for nodes in self.layer.placement], np.int64),
            np.array([float(self._most_bits)]),
            np.full((1, experts), 1 / experts),
            np.ones((1, experts), np.bool_),
        )
        try:
            self.arrays_of(self.decide([first])[0])  # compiles now, lest the first slot wait for it
        except FrameError as error:
            expected = f"a policy that gives each link a subcarrier of its own ({error})"
            raise InvalidInputError("schedule", policy.name, expected) from None

    def read(self, frame: Frame) -> SlotRequest:
        """Return the items in a request; see `read_request` for what is refused."""
        return read_request(
            self._policy.name, frame, self.layer.placement, self.manifest.nodes, self._most_bits
        )

    def arrays_of(self, reply: SlotReply) -> dict[str, NDArray[Any]]:
        """Return the arrays of a reply; see `reply_arrays` for what is refused."""
        return reply_arrays(self._policy.name, reply, self._links.radio.subcarriers)

    def decide(self, requests: list[SlotRequest]) -> list[SlotReply]:
        """Return the decision for each request of a slot.

        Raises:
            InvalidInputError: the policy returned arrays of other shapes.
        """
        sizes = [len(request.bits_T) for request in requests]
        source_T = np.repeat([request.source for request in requests], sizes)
        node_TE = np.repeat([request.node_E for request in requests], sizes, axis=0)
        bits_T, scores_TE, reachable_TE = (
            np.concatenate([getattr(request, name) for request in requests])
            for name in ("bits_T", "scores_TE", "reachable_TE")
        )
        slot = Slot(source_T, self._placement, self._links, self.layer.layer, bits_T, node_TE=node_TE)
        # A joint policy decides by the best subcarriers, as in simulation: see dispatch.
        best_j_TE = bits_T[:, np.newaxis] * self._best_j_NN[source_T[:, np.newaxis], node_TE]
        cost = Cost(np.where(reachable_TE, best_j_TE, np.inf))
        routing = self._checked(self._policy.route(scores_TE, cost, slot), slot)
        assert routing.subcarrier_NN is not None
        replies, ends = [], np.cumsum(sizes).tolist()
        for request, size, end in zip(requests, sizes, ends, strict=True):
            rows = slice(end - size, end)
            replies.append(
                SlotReply(
                    request.source, routing.mask_TE[rows], routing.feasible_T[rows], routing.subcarrier_NN
                )
            )
        return replies

    def _checked(self, routing: Routing, slot: Slot) -> Routing:
        items, experts, nodes = len(slot.source_T), self.layer.experts, self.manifest.nodes
        table = routing.subcarrier_NN
        shapes = (routing.mask_TE.shape, routing.feasible_T.shape, None if table is None else table.shape)
        expected = ((items, experts), (items,), (nodes, nodes))
        if shapes != expected:
            raise InvalidInputError(
                f"shapes of {self._policy.name}'s mask_TE, feasible_T and subcarrier_NN",
                shapes,
                str(expected),
            )
        return routing
