"""Some layers of a mesh, as one client reaches them: a session, their experts, and who schedules them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import get_args

import numpy as np
import zenoh

from airmoe.checks import integer_at_least
from airmoe.errors import InvalidInputError, MeshError, NoNodeReachableError, one_of
from airmoe.files import AnyPath
from airmoe.links import EmulatedLinks, Links, LinkSource, RecordedLinks
from airmoe.manifest import Manifest, MeshTransmission
from airmoe.mesh.frame import BYTES_PER_VALUE, WireType
from airmoe.mesh.identity import Identity
from airmoe.mesh.layer import MeshLayer
from airmoe.mesh.link_meter import LinkMeasure
from airmoe.mesh.log import PEER_NAME_LENGTH
from airmoe.mesh.measured_links import MeasuredLinks
from airmoe.mesh.membership import Membership, any_node
from airmoe.mesh.networks import expert_of
from airmoe.mesh.peers import HEDGE_S, Peers
from airmoe.mesh.probing import PROBE_S, Prober
from airmoe.mesh.queries import anybody, asker_name
from airmoe.mesh.reporters import Reporters, report_to
from airmoe.mesh.reports import MOST_LINKS, ClientReport, LinkReport
from airmoe.mesh.requests import Traffic
from airmoe.mesh.roster_exchange import RosterExchange
from airmoe.mesh.run_links import simulated_links
from airmoe.mesh.scheduled_policy import ScheduledPolicy, SoleSourcePolicy
from airmoe.mesh.schedulers import Schedulers
from airmoe.mesh.searching import why_none_is_found
from airmoe.mesh.session import await_news, close_session, open_session
from airmoe.mesh.tally import Tally
from airmoe.mesh.wire import Wire
from airmoe.randomness import stream
from airmoe.scheduling import Cost, JointPolicy, Policy
from airmoe.scheduling.parsing import as_policy
from airmoe.scheduling.policy import as_joint

LOOK_S = 0.005
"""How often `MeshLayers.wait_for_nodes` looks who is alive."""


class MeshLayers:
    """Some layers of a mesh, as one client reaches them.

    ``layers`` are their experts and ``schedulers`` who may decide, both in the order of ``numbers``. What is
    known of a node holds in all of them. ``tally`` counts what is asked about images, where somebody counts.

    Args:
        client_folder: of the client; the experts in it run in this process.
        manifest: read from it.
        numbers: of the layers.
        connect: addresses of one or more nodes, or files of them.
        links: the links between the nodes, or a source that is asked once per query; default the run's.
        wire_type: "float32", "float16" or "bfloat16" on the wire.
        session: an open session to use instead of opening one; it is left open.
        transmission: "ideal" or "analog" links; default the run's.
        seed: of the noise of analog links, >= 0.
        hedge_s: see `Peers`.
        identity: of the client's node; see `open_session`.
        emulated: links that messages are to go over, rather than as fast as they can.
        listen: address at which other clients reach this one; None where they need not.

    Raises:
        RunFolderError: an expert's file is missing or damaged.
        IdentityError: the identity is another node's, or does not hold now.
        AddressError: an address is malformed or not loopback.
        InvalidInputError: unknown wire type or transmission, links between another number of nodes, or a
            number out of range.
    """

    def __init__(
        self,
        client_folder: Path,
        manifest: Manifest,
        numbers: Sequence[int],
        connect: Sequence[AnyPath] = (),
        *,
        links: Links | LinkSource | None = None,
        wire_type: WireType = "float32",
        session: zenoh.Session | None = None,
        transmission: MeshTransmission | None = None,
        seed: int = 0,
        hedge_s: float = HEDGE_S,
        identity: Identity | None = None,
        emulated: EmulatedLinks | None = None,
        listen: str | None = None,
    ) -> None:
        self.manifest, self._connect, self._identity = manifest, connect, identity
        membership, admits = None, any_node
        self._membership: Membership | None = None
        if identity is not None:
            identity.refuse_other(manifest)
            self._membership = membership = Membership(identity)
            admits = membership.admits_node
        self.transmission: MeshTransmission = transmission or manifest.radio.transmission
        for name, value, known in (
            ("wire_type", wire_type, tuple(BYTES_PER_VALUE)),
            ("transmission", self.transmission, get_args(MeshTransmission)),
        ):
            if value not in known:
                raise InvalidInputError(name, value, one_of(value, known))
        noise = stream(integer_at_least("seed", seed, 0), "mesh noise", manifest.node)
        peers: Peers[int] = Peers(hedge_s)
        self.run_links = simulated_links(manifest.radio, manifest.nodes)
        links = self.run_links if links is None else links
        if isinstance(links, Links):
            links = RecordedLinks([self._checked(links)])
        self._source: LinkSource = links
        self.tally: Tally | None = None
        own = {
            number: {
                each.expert: expert_of(client_folder, manifest, each)
                for each in manifest.serves
                if each.layer == number
            }
            for number in numbers
        }
        self.layers: list[MeshLayer] = []
        self.schedulers: list[Schedulers] = []
        with ExitStack() as open_:  # closes what is open where a later step fails
            if is_own := session is None:
                # Who listens is taken for its node. That one is dialled all the same: it is another process.
                own_node = () if identity is None or listen is None else identity.member.addresses
                session = open_session(listen, [*connect, *own_node], membership)
                open_.callback(close_session, session)
                if membership is not None:
                    open_.callback(RosterExchange(session, membership).close)
            self._session, asker = session, asker_name(session, manifest.node, identity)
            self._asker, self._admits, self._since_s = asker, admits, time.time()
            wire = Wire(session, asker, manifest.node, emulated)
            open_.callback(wire.close)
            self._prober = Prober(wire, manifest.mesh, self._others_alive)
            open_.callback(self._prober.close)
            for number in numbers:
                self.schedulers.append(Schedulers(session, manifest, number, asker, admits))
                open_.callback(self.schedulers[-1].close)
            for number in numbers:
                self.layers.append(
                    MeshLayer(
                        session,
                        manifest,
                        number,
                        own[number],
                        wire_type,
                        self.transmission,
                        noise,
                        peers,
                        wire,
                        admits,
                    )
                )
                open_.callback(self.layers[-1].close)
            if membership is not None:
                membership.left_out.append(self._left_out)
            self._meter = wire.meter
            admits_asker = anybody if membership is None else membership.admits
            open_.callback(report_to(session, manifest.mesh, manifest.node, self._report, admits_asker))
            if isinstance(links, MeasuredLinks):
                links.measured_by(wire.meter, self.run_links.radio, manifest.nodes, manifest.node)
                self._prober.start()
            self._warm_up(is_own)
            self._open = open_.pop_all()
        self._closed = False

    def close(self) -> None:
        """Leave the mesh. Closing twice does no harm."""
        self._closed = True
        self._open.close()

    def refuse_closed(self) -> None:
        """Raise `MeshError` after `close`."""
        if self._closed:
            raise MeshError("this client is closed; expected an open one")

    def _warm_up(self, is_own: bool) -> None:
        """Do once what the first query would have to wait for: loading, pricing, and hearing who is there."""
        for layer in self.layers:
            for network in layer.own.values():
                network(np.zeros((1, *layer.spec.payload), np.float32))
            if not layer.is_analog:
                layer.ideal_price(self.run_links)
        if is_own:
            await_news(self._session, f"airmoe/{self.manifest.mesh}/{self.manifest.model_hash}")

    def prepare(self, policy: Policy | str) -> None:
        """Have a policy decide once on nothing, lest its code compile while a query waits.

        Raises:
            InvalidInputError: a joint policy without ``fallback``.
        """
        policy = as_policy(policy)
        joint, layer = self._joint(policy), self.layers[0]
        slot = layer.slot(1, self.run_links, bits=1.0)
        nothing_1E = np.zeros((1, layer.spec.experts))
        if joint is None or self.is_sole_source:
            policy.route(nothing_1E, Cost(nothing_1E), slot)
        if joint is not None:
            joint.fallback.route(nothing_1E, Cost(nothing_1E), slot)

    def _joint(self, policy: Policy) -> JointPolicy | None:
        """Return a policy if it is joint: whoever decides for all knows the links of all."""
        joint = as_joint(policy)
        if joint is not None and isinstance(self._source, MeasuredLinks):
            expected = "one that decides at the source, e.g. des: a client measures its own links alone"
            raise InvalidInputError("policy", policy.name, expected)
        return joint

    @property
    def goes_by_measured_links(self) -> bool:
        """Whether gate and policy see links as they were measured."""
        return isinstance(self._source, MeasuredLinks)

    @property
    def is_sole_source(self) -> bool:
        """Whether the client has no expert of its own: it is the only one that asks."""
        return not self.manifest.serves

    def links(self, told: Links | LinkSource | None = None) -> Links:
        """Return the links of a query: those that it names, else the client's.

        Raises:
            InvalidInputError: they are between another number of nodes.
        """
        source = self._source if told is None else told
        if source is self._source:
            self._prober.used()
        return self._checked(source if isinstance(source, Links) else source.current())

    def _left_out(self, names: frozenset[str]) -> None:
        for layer in self.layers:
            layer.liveliness.forget_strangers()
        for schedulers in self.schedulers:
            schedulers.liveliness.forget_strangers()

    def _others_alive(self) -> frozenset[int]:
        return self.nodes_alive() - {self.manifest.node}

    def keep_links_measured(self) -> None:
        """Probe links of which nothing is known of late, for a minute from now on."""
        self.refuse_closed()
        self._prober.used()
        self._prober.start()

    def measure_links(self, timeout_s: float = PROBE_S) -> list[LinkMeasure]:
        """Probe the links to all nodes that are alive, and return what is known of the links to all nodes.

        Args:
            timeout_s: for the probes of each link.
        """
        self.refuse_closed()
        for node in sorted(self._others_alive()):
            self._prober.probe(node, timeout_s)
        return [self._meter.measure(node) for node in sorted(self.nodes_placed - {self.manifest.node})]

    def _report(self) -> ClientReport:
        nodes = sorted(self.nodes_placed - {self.manifest.node})[:MOST_LINKS]
        return ClientReport(
            node=self.manifest.node,
            model_hash=self.manifest.model_hash,
            name=self._asker[:PEER_NAME_LENGTH],
            since_s=self._since_s,
            asked=None if self.tally is None else self.tally.now(),
            links=LinkReport.of(map(self._meter.measure, nodes)),
        )

    def reporters(self) -> Reporters:
        """Return all nodes and clients of the mesh that report how they are, watched from now on."""
        self.refuse_closed()
        return Reporters(self._session, self.manifest.mesh, self._asker, self._is_node)

    def _is_node(self, node: int) -> bool:
        return node < self.manifest.nodes and self._admits(node)

    def _checked(self, links: Links) -> Links:
        if links.nodes != (nodes := self.manifest.nodes):
            raise InvalidInputError("links.nodes", links.nodes, f"{nodes}, the nodes of this mesh")
        return links

    def policy_of(self, number: int, policy: Policy, end_s: float, traffic: Traffic) -> Policy:
        """Return who decides in a layer: a scheduler of the mesh where the policy is joint, else the policy.

        Args:
            number: place of the layer in ``layers``.
            policy: the query's.
            end_s: the query's deadline on the monotonic clock.
            traffic: where bytes are counted.
        """
        joint, schedulers = self._joint(policy), self.schedulers[number]
        if joint is None:
            return policy
        if self.is_sole_source and not schedulers.liveliness.alive:  # nobody schedules for others, either
            return SoleSourcePolicy(joint, schedulers)
        return ScheduledPolicy(joint, schedulers, end_s, traffic)

    @property
    def nodes_placed(self) -> frozenset[int]:
        """The nodes that hold an expert of some layer."""
        return frozenset[int]().union(*(layer.nodes for layer in self.layers))

    def nodes_alive(self) -> frozenset[int]:
        """Return the nodes all of whose experts are alive, in every layer."""
        nodes, gone = set[int](), set[int]()
        for layer in self.layers:
            placed, alive = layer.nodes, layer.nodes_alive()
            nodes |= placed
            gone |= placed - alive
        return frozenset(nodes - gone)

    def wait_for_all(self, timeout_s: float, *, schedulers: bool = False) -> bool:
        """Wait until all nodes serve all their experts, and a scheduler where asked for; return whether."""
        end_s, nodes = time.monotonic() + timeout_s, self.nodes_placed

        def whole() -> bool:
            decided = all(each.liveliness.alive for each in self.schedulers)
            return self.nodes_alive() == nodes and (decided or not schedulers)

        while not (is_whole := whole()) and time.monotonic() < end_s:
            time.sleep(LOOK_S)
        return is_whole

    def wait_for_nodes(self, nodes: int = 1, timeout_s: float = 5.0) -> int:
        """Wait until at least ``nodes`` nodes serve all their experts; return how many do.

        Raises:
            NoNodeReachableError: fewer were found in time.
        """
        self.refuse_closed()
        end_s = time.monotonic() + timeout_s
        while (found := len(self.nodes_alive())) < nodes and time.monotonic() < end_s:
            time.sleep(LOOK_S)
        if found < nodes:
            manifest = self.manifest
            where = ", ".join(map(str, self._connect)) or "the session"
            why = "" if found else why_none_is_found(self._session, self._connect, manifest, self._identity)
            raise NoNodeReachableError(
                f"found {found} node{'s' * (found != 1)} of mesh {manifest.mesh!r}, model "
                f"{manifest.model_hash}, at {where} within {timeout_s} s; expected {nodes}"
                + (f": {why}" if why else "")
            )
        return found
