"""A joint policy at a client: a scheduler of the mesh decides, and where none does, the policy's fallback.

Shape suffixes: T items, E experts, N nodes.
"""

import itertools
import logging
import queue
import secrets
import threading
import time
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import zenoh
from numpy.typing import ArrayLike

from airmoe.errors import (
    FrameError,
    InvalidInputError,
    MeshError,
    NoNodeReachableError,
    NotScheduledError,
    RefusedError,
)
from airmoe.manifest import Manifest
from airmoe.mesh.frame import Frame, decode, encode
from airmoe.mesh.keys import scheduler_key, schedulers_key
from airmoe.mesh.liveliness import SILENCE_S, Liveliness
from airmoe.mesh.queries import ask, refusal_of
from airmoe.mesh.slot_messages import SlotReply, SlotRequest, pack_request, refuse_shared, unpack_reply
from airmoe.scheduling import Cost, JointPolicy, Policy, Routing, Slot
from airmoe.scheduling.policy import check_inputs, routing_of

_log = logging.getLogger("airmoe.mesh")


class Schedulers:
    """The schedulers of a mesh as one client sees them: found by their tokens, the lowest node is asked.

    One that let a request time out is not asked again for as long as a dead node takes to be known.
    ``liveliness`` tells which are alive.

    Args:
        session: an open Zenoh session.
        manifest: of the client that asks.
    """

    def __init__(self, session: zenoh.Session, manifest: Manifest) -> None:
        self.sent_bytes = self.received_bytes = 0
        self._session, self._manifest = session, manifest
        self._request_ids = itertools.count(secrets.randbits(48))
        self._deciding = True
        self._reporting = threading.Lock()
        key = schedulers_key(manifest.mesh, manifest.model_hash, manifest.layer)
        self.liveliness = Liveliness(session, key, manifest.experts)

    def close(self) -> None:
        """Stop watching the mesh; the session stays open."""
        self.liveliness.close()

    def decide(self, policy: str, request: SlotRequest, subcarriers: int, wait_s: float) -> SlotReply:
        """Ask the lowest scheduler that is alive and not silent.

        Args:
            policy: name of the policy that it must run.
            request: the client's items.
            subcarriers: of the client's links.
            wait_s: seconds to wait for the answer.

        Raises:
            MeshError: none is alive, it refused, was too slow, or answered what cannot be.
        """
        if wait_s <= 0:
            raise MeshError("no time is left to ask a scheduler")
        end_s = time.monotonic() + wait_s
        candidates = self.liveliness.askable
        if not candidates:
            raise NoNodeReachableError("no scheduler is alive")
        node, manifest = min(candidates), self._manifest
        asked = Frame(
            pack_request(policy, request),
            next(self._request_ids),
            manifest.model_hash,
            manifest.layer,
            manifest.client,
            int(wait_s * 1000),
        )
        frame = encode(asked)
        self.sent_bytes += len(frame)
        replies: queue.SimpleQueue[zenoh.Reply | None] = queue.SimpleQueue()
        key = scheduler_key(manifest.mesh, manifest.model_hash, manifest.layer, node)
        # Ours comes first, so that silence is told from refusal.
        ask(self._session, key, frame, wait_s + SILENCE_S, replies.put, f"scheduler {node}")
        failure = MeshError(f"scheduler {node} gave no answer")
        while True:
            try:
                reply = replies.get(timeout=max(end_s - time.monotonic(), 0.0))
            except queue.Empty:
                self.liveliness.silent(node)
                raise MeshError(f"scheduler {node} did not answer within {wait_s:.3f} s") from None
            if reply is None:  # no more replies will come
                raise failure
            try:
                return self._read(reply, asked, policy, request.scores_TE.shape, subcarriers)
            except RefusedError as error:
                failure = MeshError(f"scheduler {node} refused: {error}")
            except FrameError as error:
                failure = MeshError(f"scheduler {node} sent a bad reply: {error}")

    def report(self, policy: JointPolicy, failure: MeshError | None) -> None:
        """Log who decides when that changes: a scheduler, or after a failure the fallback."""
        with self._reporting:
            changed = self._deciding != (failure is None)
            self._deciding = failure is None
        if changed and failure is not None:
            _log.warning(
                "%s; until one decides again, %s decides at this client instead of %s",
                failure,
                policy.fallback.name,
                policy.name,
            )
        elif changed:
            _log.info("a scheduler decides by %s again", policy.name)

    def _read(
        self, reply: zenoh.Reply, asked: Frame, policy: str, shape: tuple[int, int], subcarriers: int
    ) -> SlotReply:
        if reply.ok is None:
            raise RefusedError(repr(refusal_of(reply)))
        data = reply.ok.payload.to_bytes()
        self.received_bytes += len(data)
        frame = decode(data)
        if (frame.is_reply, *_about(frame)) != (True, *_about(asked)):
            raise FrameError("it answers another request")
        return unpack_reply(policy, frame.array, shape, subcarriers)


@dataclass(frozen=True)
class ScheduledPolicy:
    """A joint policy during one query: a scheduler of the mesh decides.

    A scheduler may take half of the time that is left.

    Args:
        policy: what the scheduler must run, and whose fallback decides without one.
        schedulers: who may be asked.
        end_s: when the query's deadline is, by the monotonic clock.
    """

    policy: JointPolicy
    schedulers: Schedulers
    end_s: float
    joint: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """The name of the joint policy."""
        return self.policy.name

    @property
    def fallback(self) -> Policy:
        """Who decides where no scheduler does."""
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
        request = SlotRequest(slot.bits_T, scores, reachable_TE)
        try:
            wait_s = (self.end_s - time.monotonic()) / 2
            reply = self.schedulers.decide(self.name, request, slot.links.radio.subcarriers, wait_s)
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
        policy: what decides, and whose fallback does so where no radio can follow.
        schedulers: who reports when the fallback decides.
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
        """Who decides where the joint policy cannot."""
        return self.policy.fallback

    def route(self, scores_TE: ArrayLike, cost: Cost, slot: Slot) -> Routing:
        """Choose; see `Policy.route`.

        Raises:
            NotScheduledError: links would share a subcarrier.
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


def _about(frame: Frame) -> tuple[int, str, int, int]:
    return frame.request_id, frame.model_hash, frame.layer, frame.expert
