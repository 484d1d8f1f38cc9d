"""A node: it serves the experts of one folder to the mesh, from a single worker behind a fair queue.

Shape suffixes: T items.
"""

import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType

import numpy as np
import zenoh

from airmoe.checks import number_within
from airmoe.errors import (
    FrameError,
    IdentityError,
    InvalidInputError,
    MeshError,
    RefusedError,
    RunFolderError,
)
from airmoe.files import AnyPath, as_path
from airmoe.manifest import Manifest, read_manifest
from airmoe.mesh.bundle import bundled, unbundled
from airmoe.mesh.condition import Condition
from airmoe.mesh.counts import Counts, Refusal
from airmoe.mesh.ending import ends_with_process, needs_no_wait
from airmoe.mesh.frame import MAX_FRAME_BYTES, Frame, Glance, Kind, decode, encode, glance
from airmoe.mesh.identity import Identity
from airmoe.mesh.keys import asker_in, expert_key
from airmoe.mesh.log import about, mesh_log
from airmoe.mesh.networks import OnnxNetwork, expert_of
from airmoe.mesh.presence import Presence
from airmoe.mesh.probing import answer_probes
from airmoe.mesh.queries import REQUEST_ID_BYTES, refuse, reply_to, serve, who_asks, withdrawals
from airmoe.mesh.renewal import CLOSING_S, RenewedPresence
from airmoe.mesh.reporters import report_to
from airmoe.mesh.reports import NodeReport
from airmoe.mesh.request_queue import OVERLOADED, RequestQueue, Waiting
from airmoe.mesh.run_links import simulated_links
from airmoe.mesh.scheduler import Scheduler
from airmoe.mesh.slot_decision import SlotDecision
from airmoe.mesh.slot_queue import LONGEST_SLOT_MS
from airmoe.runfolder import checked_file
from airmoe.scheduling import Policy
from airmoe.scheduling.parsing import as_policy


@dataclass(frozen=True, eq=False)
class _Served:
    """An expert, and the key under which it is served."""

    key: str
    model_hash: str
    layer: int
    expert: int
    expert_hash: str
    payload: tuple[int, ...]
    network: OnnxNetwork


@dataclass(frozen=True, eq=False)
class _Request:
    """A request that waits: a frame for each expert that is meant, the one of the key first.

    Its bytes are in the query alone: a copy would weigh as much again.
    """

    query: zenoh.Query
    served: _Served
    seen: list[Glance]
    arrived_s: float


class Node:
    """Serves all experts of a client's folder until closed.

    The node refuses a request, with the reason, when too many of the same asker wait, when too many bytes
    wait, when it could not be answered in time, or when it is corrupt or for another model. No request stops
    the node. Askers share its time evenly. A file that only a client needs, the extractor or a gate, may be
    missing or damaged: a warning names it.

    Args:
        client_folder: ``clients/<id>`` of a run, or a copy of it.
        listen: address to listen on, ``HOST:PORT``; without an identity a loopback address.
        connect: addresses of other nodes, or files of them; who is connected to one learns of the others.
        schedule: a joint policy by which this node decides for all sources that ask it; default none.
        slot_ms: how long it then collects requests before it decides, 0 to 500.
        session: an open session to use instead of opening one with ``listen`` and ``connect``; it stays open.
        identity: who this node is. Its links then have mutual TLS and may leave this machine, and it serves
            those alone whom the roster names.

    Raises:
        RunFolderError: the manifest or an expert is missing or damaged.
        IdentityError: the identity is another node's, or does not hold now.
        AddressError: an address is malformed, not loopback, or in use.
        InvalidInputError: a server's folder, which holds no expert; ``schedule`` is not joint, or the run's
            server decides itself; ``slot_ms`` out of range.
    """

    def __init__(
        self,
        client_folder: AnyPath,
        listen: str,
        connect: Sequence[AnyPath] = (),
        *,
        schedule: Policy | str | None = None,
        slot_ms: float = 5.0,
        session: zenoh.Session | None = None,
        identity: Identity | None = None,
    ) -> None:
        number_within("slot_ms", slot_ms, 0, LONGEST_SLOT_MS)
        client_folder = as_path(client_folder)
        self.manifest = manifest = read_manifest(client_folder)
        if not manifest.serves:
            expected = "a folder with an expert: this one has none to serve, it only asks"
            raise InvalidInputError("client_folder", str(client_folder), expected)
        if schedule is not None and not manifest.layers_asked:
            expected = "none: the server of this run is the only source, and decides itself"
            raise InvalidInputError("schedule", as_policy(schedule).name, expected)
        refuse_unfit = partial(_refuse_unfit, manifest, schedules=schedule is not None)
        if identity is not None:
            refuse_unfit(identity)
        experts = _experts_of(client_folder, manifest)
        _warn_of_damage(client_folder, manifest)
        self._decisions, self._slot_s = list[SlotDecision](), slot_ms / 1000
        if schedule is not None:
            links = simulated_links(manifest.radio, manifest.nodes)
            self._decisions = [
                SlotDecision(schedule, manifest, layer, links) for layer in manifest.layers_asked
            ]
        self._served = {(served.layer, served.expert): served for served in experts}
        self._changed = threading.Condition()
        self._queue = RequestQueue[_Request]()
        self._closing, self._counts = False, Counts()
        with ExitStack() as open_:  # closes what is open where a later step fails
            self._network = RenewedPresence(listen, connect, identity, session, refuse_unfit, self._declare)
            open_.callback(self._network.close)
            self._worker = worker = threading.Thread(target=self._work, name="airmoe experts", daemon=True)
            worker.start()
            open_.callback(needs_no_wait, worker)
            open_.callback(worker.join, CLOSING_S)
            open_.callback(self._stop)
            open_.callback(self._network.withdraw)
            self._network.declare()
            self._open = open_.pop_all()
        ends_with_process(worker, self.close)  # what arrives later would crash the process, too

    def _declare(self, presence: Presence) -> None:
        """Serve in a session."""
        session, admits = presence.session, presence.admits

        def admitted(asker: str) -> bool:
            if not (is_admitted := admits(asker)):
                self._counts.refused("stranger")
            return is_admitted

        for decision in self._decisions:  # first, so that whoever finds the experts knows the scheduler, too
            presence.declared(Scheduler(session, decision, self._slot_s, admits).close)
        probes = answer_probes(session, self.manifest.mesh, self.manifest.node, admits)
        presence.declared(probes.undeclare)
        presence.declared(report_to(session, self.manifest.mesh, self.manifest.node, self._report, admits))
        for served in self._served.values():
            answers = serve(session, served.key, partial(self._accept, presence, served), admitted)
            presence.declared(answers.undeclare)
            presence.declared(withdrawals(session, served.key, self._withdraw).undeclare)
        for served in self._served.values():
            presence.declared(session.liveliness().declare_token(served.key).undeclare)

    def is_outdated(self) -> bool:
        """Return whether the certificate in the identity's folder, or what its roster allows, is newer."""
        return self._network.is_outdated()

    def renew(self) -> None:
        """Go on with the certificate and the roster that are in the identity's folder now.

        The node serves in a second session, at another port, until the first is opened anew. So whoever can
        reach that port loses no query.

        Raises:
            IdentityError: the node has no identity, or the folder's is not right; nothing changes then.
            AddressError: the address cannot be listened at again; the node serves on at the other port.
        """
        self._network.renew()

    def leave_soon(self) -> None:
        """Have a renewal that goes on, in whatever thread, wait for nobody any longer: `close` comes next."""
        self._network.ends.set()

    def condition(self) -> Condition:
        """Return how the node is now: what it did, what waits, and whether it is well."""
        return self._condition(len(self._network.presence.linked()))

    def _report(self) -> NodeReport:
        return NodeReport.of(self._condition(links=0), self.manifest)  # to count links would call Zenoh

    def _condition(self, links: int) -> Condition:
        manifest, identity = self.manifest, self._network.presence.identity
        with self._changed:
            waiting, waiting_bytes, is_closing = len(self._queue), self._queue.bytes, self._closing
        return Condition(
            manifest.node,
            manifest.mesh,
            manifest.model_hash,
            self._counts.now(),
            waiting,
            waiting_bytes,
            links,
            None if identity is None else identity.roster.number,
            None if identity is None else identity.ends,
            is_closing,
            self._worker.is_alive(),
        )

    def __enter__(self) -> "Node":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the mesh; requests already accepted are answered first. Closing twice does no harm."""
        self.leave_soon()
        with self._network.renewing:
            self._open.close()

    def _accept(self, presence: Presence, served: _Served, query: zenoh.Query, asker: str) -> None:
        size, now_s = 0 if query.payload is None else len(query.payload), time.monotonic()
        if query.payload is None or query.attachment is not None or not 0 < size <= MAX_FRAME_BYTES:
            expected = f"a frame of at most {MAX_FRAME_BYTES} bytes alone"
            self._refuse(query, "wrong", f"the request has {size} bytes; expected {expected}")
            return
        with self._changed:
            why = self._queue.is_full(asker, size)
        if why is not None:
            self._refuse(query, "overloaded", why)
            return
        try:
            seen = [glance(frame) for frame in unbundled(query.payload.to_bytes())]
        except FrameError as error:
            self._refuse(query, "wrong", str(error))
            return
        if (most := max(len(each.heads) for each in seen)) > 1:  # the first is the size of the work
            self._refuse(query, "wrong", f"the request has {most} arrays; expected payload alone")
            return
        request = _Request(query, served, seen, now_s)
        presence.requests.add(request)
        items = sum(max(each.items, 1) for each in seen)  # a frame without items is work, too
        ends_s = now_s + min(each.remaining_ms for each in seen) / 1000
        waiting = Waiting(request, asker, seen[0].request_id, items, size, ends_s)
        with self._changed:
            is_closing = self._closing
            why = "the node is closing" if is_closing else self._queue.add(waiting, now_s)
            self._changed.notify()
        if why is not None:
            is_full = why.startswith(OVERLOADED)
            self._refuse(query, "closing" if is_closing else "overloaded" if is_full else "late", why)

    def _refuse(self, query: zenoh.Query, kind: Refusal, why: str) -> None:
        self._counts.refused(kind)
        refuse(query, why)

    def _withdraw(self, sample: zenoh.Sample) -> None:
        asker, data = asker_in(str(sample.key_expr)), sample.payload.to_bytes()
        if asker is None or len(data) != REQUEST_ID_BYTES:
            return
        with self._changed:
            withdrawn = self._queue.withdraw(asker, int.from_bytes(data, "little"))
        if withdrawn is not None:
            withdrawn.item.query.drop()

    def _stop(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not len(self._queue):
                    if self._closing:
                        return
                    self._changed.wait()
                begin_s = time.monotonic()
                taken = self._queue.take(begin_s)
            self._work_off(*taken, begin_s)
            del taken  # what is answered is held by nobody

    def _work_off(
        self, waiting: Waiting[_Request] | None, dropped: list[Waiting[_Request]], begin_s: float
    ) -> None:
        for late in dropped:
            self._refuse(late.item.query, "late", f"too late: waited {begin_s - late.item.arrived_s:.3f} s")
        if waiting is None:
            return
        self._counts.begun()
        is_done = self._serve(waiting.item)
        self._counts.ended()
        if is_done:
            now_s = time.monotonic()
            self._counts.answered(waiting.asker, sum(each.items for each in waiting.item.seen))
            with self._changed:
                self._queue.took(waiting, now_s - begin_s, now_s)

    def _serve(self, request: _Request) -> bool:
        """Answer a request; return whether its work was done. A refused one says nothing of the next."""
        query = request.query
        try:
            reply_to(query, self._answer(request), time.monotonic() - request.arrived_s)
        except (MeshError, zenoh.ZError) as error:
            self._refuse(query, "wrong" if isinstance(error, MeshError) else "failed", str(error))
        except Exception as error:  # one bad request must not end the service
            peer = who_asks(query)
            mesh_log.exception("a request of %s failed", peer, extra=about(peer))
            self._refuse(query, "failed", f"internal error: {type(error).__name__}")
        else:
            return True
        return False

    def _answer(self, request: _Request) -> bytes:
        """Return the answers of all experts that a request is for: of the key's, and of others beside it."""
        assert request.query.payload is not None
        answers, asked = list[bytes](), request.served
        for data, seen in zip(unbundled(request.query.payload.to_bytes()), request.seen, strict=True):
            frame = decode(data, seen)
            if answers and frame.expert is not None:
                asked = self._served.get((request.served.layer, frame.expert), request.served)
            answers.append(_answer(frame, asked))
        return bundled(answers)


def _refuse_unfit(manifest: Manifest, identity: Identity, *, schedules: bool) -> None:
    identity.refuse_other(manifest)
    if schedules and not identity.member.schedules:
        raise IdentityError(f"the roster does not let {identity.name} schedule for others")


def _experts_of(client_folder: Path, manifest: Manifest) -> list[_Served]:
    return [
        _Served(
            expert_key(manifest.mesh, manifest.model_hash, each.layer, each.expert, manifest.node),
            manifest.model_hash,
            each.layer,
            each.expert,
            manifest.layer(each.layer).hashes[each.expert],
            tuple(manifest.layer(each.layer).payload),
            expert_of(client_folder, manifest, each),
        )
        for each in manifest.serves
    ]


def _warn_of_damage(client_folder: Path, manifest: Manifest) -> None:
    """Log which files a client could not ask with, in one line."""
    found = []
    for name in manifest.files_to_ask:
        try:
            checked_file(client_folder, manifest, name)
        except RunFolderError as error:
            found.append(str(error))
    if found:
        mesh_log.warning("%s; the node serves, and nobody can ask from its folder", "; ".join(found))


def _answer(frame: Frame, served: _Served) -> bytes:
    wanted = (served.model_hash, served.layer, served.expert)
    if (asked := (frame.model_hash, frame.layer, frame.expert)) != wanted:
        raise RefusedError(f"the request is for (model, layer, expert) {asked}; this node serves {wanted}")
    if frame.expert_hash != served.expert_hash:
        raise RefusedError(
            f"the request is for expert {served.expert} of hash {frame.expert_hash}; "
            f"this node serves {served.expert_hash}"
        )
    if frame.kind != Kind.PAYLOADS:
        raise FrameError(f"the frame is {frame.kind.name}; expected {Kind.PAYLOADS.name}")
    payload_T = frame.array("payload", np.float32, (None, *served.payload))
    if not np.isfinite(payload_T).all():
        raise FrameError("the request's payloads are not finite; expected finite values")
    answer = Frame(
        Kind.OUTPUTS,
        {"output": served.network(payload_T)},
        frame.request_id,
        frame.model_hash,
        frame.layer,
        frame.expert,
        wire_type=frame.wire_type,
        expert_hash=served.expert_hash,
    )
    return encode(answer)
