"""Joint policies at a client: a scheduler of the mesh decides, or the only source itself; else the fallback.

Shape suffixes: T items, E experts, N nodes.
"""

import time
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from airmoe.errors import FrameError, InvalidInputError, MeshError, NotScheduledError
from airmoe.mesh.requests import Traffic
from airmoe.mesh.schedulers import Schedulers
from airmoe.mesh.slot_messages import SlotRequest, refuse_shared
from airmoe.scheduling import Cost, JointPolicy, Policy, Routing, Slot
from airmoe.scheduling.policy import check_inputs, routing_of


@dataclass(frozen=True)
class ScheduledPolicy:
    """A joint policy during one query: a scheduler of the mesh decides.

    A scheduler may take half of the time that is left.

    Args:
        policy: the scheduler must run it; without a scheduler its fallback decides.
        schedulers: who may be asked.
        end_s: the query's deadline on the monotonic clock.
        traffic: where bytes are counted.
    """

    policy: JointPolicy
    schedulers: Schedulers
    end_s: float
    traffic: Traffic
    joint: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """The name of the joint policy."""
        return self.policy.name

    @property
    def fallback(self) -> Policy:
        """The policy that decides where no scheduler does."""
        return self.policy.fallback

    def route(self, scores_TE: ArrayLike, cost: Cost, slot: Slot) -> Routing:
        """Have a scheduler choose; see `Policy.route`. The energies are those of this client's links.

        Raises:
            InvalidInputError: as `Policy.route`, or the slot lacks links or payload sizes.
            NotScheduledError: no scheduler decided.
        """
        scores = check_inputs(scores_TE, cost, slot)
        if slot.links is None or slot.bits_T is None:
            raise InvalidInputError(
                "slot", slot, f"links and bits_T, without which {self.name} cannot decide"
            )
        reachable_TE = cost.reachable_TE
        source, node_E = int(slot.source_T[0]), slot.node_TE[0]  # a client is one source
        request = SlotRequest(source, node_E, slot.bits_T, scores, reachable_TE)
        try:
            wait_s = (self.end_s - time.monotonic()) / 2
            reply = self.schedulers.decide(self.name, request, slot.links, wait_s, self.traffic)
            per_bit_j_TE = slot.links.energy_per_bit_j(reply.subcarrier_NN)[
                slot.source_T[:, np.newaxis], slot.node_TE
            ]
            energy_TE = np.where(reachable_TE, slot.bits_T[:, np.newaxis] * per_bit_j_TE, np.inf)
            if not np.isfinite(energy_TE[reply.mask_TE]).all():
                raise MeshError("the scheduler chose an expert that cannot be reached")
        except MeshError as error:
            self.schedulers.report(self.policy, error)
            raise NotScheduledError(str(error)) from error
        self.schedulers.report(self.policy, None)
        return replace(
            routing_of(reply.mask_TE, Cost(energy_TE)),
            feasible_T=reply.feasible_T,
            subcarrier_NN=reply.subcarrier_NN,
        )


@dataclass(frozen=True)
class SoleSourcePolicy:
    """A joint policy at a server: the only source of its mesh has all scores, so it decides itself.

    Args:
        policy: decides; its fallback decides where two links would share a subcarrier.
        schedulers: reports when the fallback decides.
    """

    policy: JointPolicy
    schedulers: Schedulers
    joint: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """The name of the joint policy."""
        return self.policy.name

    @property
    def fallback(self) -> Policy:
        """The policy that decides where the joint one cannot."""
        return self.policy.fallback

    def route(self, scores_TE: ArrayLike, cost: Cost, slot: Slot) -> Routing:
        """Choose; see `Policy.route`.

        Raises:
            NotScheduledError: two links would share a subcarrier, or a subcarrier does not exist.
        """
        routing = self.policy.route(scores_TE, cost, slot)
        try:
            if slot.links is not None and routing.subcarrier_NN is not None:
                refuse_shared(routing.subcarrier_NN, slot.links.radio.subcarriers)
        except FrameError as error:
            self.schedulers.report(self.policy, error)
            raise NotScheduledError(str(error)) from error
        self.schedulers.report(self.policy, None)
        return routing
