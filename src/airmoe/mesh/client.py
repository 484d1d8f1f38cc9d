"""A client of the mesh: it extracts features, routes, asks experts and mixes their answers.

Shape suffixes: T items, E experts, C channels or classes, H height, W width.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from types import TracebackType
from typing import NamedTuple

import numpy as np
import zenoh
from numpy.typing import NDArray

from airmoe.checks import integer_at_least, number_within, real_array, refuse_shape, refuse_where
from airmoe.dispatch import dispatch, nearest
from airmoe.dispatch.mixing import mix, mixing_weights
from airmoe.dispatch.replicas import askable
from airmoe.errors import (
    InvalidInputError,
    NoExpertReachedError,
    telling,
)
from airmoe.files import AnyPath, as_path
from airmoe.links import EmulatedLinks, Links, LinkSource
from airmoe.manifest import INPUT, InputSpec, MeshTransmission, experts_in_words, read_manifest
from airmoe.mesh.answer import Answer
from airmoe.mesh.carrier import MeshCarrier
from airmoe.mesh.extraction import extracted
from airmoe.mesh.frame import WireType
from airmoe.mesh.identity import Identity
from airmoe.mesh.images import checked_pixels
from airmoe.mesh.layers import MeshLayers
from airmoe.mesh.link_meter import LinkMeasure
from airmoe.mesh.networks import OnnxNetwork, gate_of
from airmoe.mesh.peers import HEDGE_S
from airmoe.mesh.probing import PROBE_S
from airmoe.mesh.requests import Traffic
from airmoe.mesh.tally import Tally
from airmoe.runfolder import checked_file
from airmoe.scheduling import Policy, TopK
from airmoe.scheduling.parsing import as_policy

LONGEST_DEADLINE_S = 3600.0

GateFunction = Callable[[NDArray[np.float32], NDArray[np.float64] | None], NDArray[np.float32]]
"""Payloads (T, ...) and the SNR (T, E) in dB of the links, as observed, to scores (T, E)."""


class Reach(NamedTuple):
    """The experts of a mesh as one client finds them; (E,) each.

    Attributes:
        living_E: bool, True where the expert can be asked as far as it is concerned.
        reached_E: bool, True where it lives and a link reaches it.
    """

    living_E: NDArray[np.bool_]
    reached_E: NDArray[np.bool_]


class MeshClient:
    """Asks a mesh on behalf of one client, whose extractor, gate and own experts run in this process.

    A server (``clients/server``) has no expert of its own to fall back on.

    A client keeps nothing about a query, so several threads may ask at once. For a joint policy, a scheduler
    of the mesh that runs the same policy decides, within half of a query's time. Where none does, the
    policy's ``fallback`` decides here; the log and ``Dispatched.decided_by`` say so. Where nobody schedules,
    a server decides by the joint policy itself: it is the only source of its mesh.

    ``gate`` is the exported gate, ``layer`` the experts that are asked, ``schedulers`` who may decide, and
    ``mesh`` all of the mesh that the client reaches.

    Args:
        client_folder: ``clients/<id>`` or ``clients/server`` of a run, or a copy of it.
        connect: addresses of one or more nodes, or files of them; the client learns of the others.
        policy: decides where a query names no other, or its text, e.g. "topk:2"; default top-1.
        links: the links between the nodes, or a source that is asked once per query; default the run's.
        wire_type: "float32", "float16" or "bfloat16" on the wire.
        session: an open session to use instead of opening one; it is left open.
        transmission: "ideal" links, or "analog" ones, which add noise to what other nodes are sent; default
            the run's.
        seed: of that noise, >= 0.
        hedge_s: seconds that a node may take, at least, before another expert is asked as well, 0.001 to
            3600. A node gets three times what it usually takes.
        verify: how many nodes have to give the same output, 1 or 2. With 2, a second node that holds the
            expert is asked, too, and charged; `Answer.verified_TE` says which outputs two nodes gave.
        identity: who this client is; see `Node`.
        emulated: links that messages are to go over, rather than as fast as the network carries them.
        listen: address at which other clients reach this one, HOST:PORT: who watches a mesh needs it.

    Raises:
        RunFolderError: a file of the folder is missing or damaged.
        IdentityError: the identity is another node's, or does not hold now.
        AddressError: an address is malformed or not loopback.
        InvalidInputError: a folder that serves alone, or asks at several layers; unknown wire type or
            transmission; a joint policy without a ``fallback``; links between another number of nodes; a seed
            or ``hedge_s`` out of range; ``verify`` where no expert has two nodes, or over analog links.
    """

    def __init__(
        self,
        client_folder: AnyPath,
        connect: Sequence[AnyPath] = (),
        *,
        policy: Policy | str | None = None,
        links: Links | LinkSource | None = None,
        wire_type: WireType = "float32",
        session: zenoh.Session | None = None,
        transmission: MeshTransmission | None = None,
        seed: int = 0,
        hedge_s: float = HEDGE_S,
        verify: int = 1,
        identity: Identity | None = None,
        emulated: EmulatedLinks | None = None,
        listen: str | None = None,
    ) -> None:
        client_folder = as_path(client_folder)
        self.manifest = manifest = read_manifest(client_folder)
        asks = manifest.asks
        if asks is None or len(asks.gates) > 1:
            expected = "a client that asks at one layer"
            if asks is None:
                served = experts_in_words(manifest.serves)
                expected = f"a client that asks: this one serves {served} alone, and has no gate"
            if manifest.source is not None:
                expected = "a client that asks about images: this one is of texts, see airmoe generate"
            raise InvalidInputError("client_folder", str(client_folder), expected)
        (gate,) = asks.gates
        spec, self._input = manifest.layer(gate.layer), asks.input
        self._extractor = OnnxNetwork(
            checked_file(client_folder, manifest, asks.extractor),
            {INPUT: (asks.input.channels, asks.input.height, asks.input.width)},
            tuple(spec.payload),
        )
        self.gate: GateFunction = gate_of(client_folder, manifest, gate)
        self.mesh = mesh = MeshLayers(
            client_folder,
            manifest,
            [gate.layer],
            connect,
            links=links,
            wire_type=wire_type,
            session=session,
            transmission=transmission,
            seed=seed,
            hedge_s=hedge_s,
            identity=identity,
            emulated=emulated,
            listen=listen,
        )
        with ExitStack() as open_:  # closes what is open where a later step fails
            open_.callback(mesh.close)
            self.transmission = mesh.transmission
            (self.layer,), (self.schedulers,) = mesh.layers, mesh.schedulers
            self._tally = mesh.tally = Tally()
            self._verifies = _checked_verify(verify, spec.placement, self.transmission)
            self.policy = as_policy(policy or TopK(1))
            self.prepare(self.policy)
            self._warm_up(asks.input)
            open_.pop_all()

    def __enter__(self) -> MeshClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the mesh. Closing twice does no harm."""
        self.mesh.close()

    def _warm_up(self, spec: InputSpec) -> None:
        """Load once what the first query would have to wait for."""
        payload_1 = self._extractor(np.zeros((1, spec.channels, spec.height, spec.width), np.float32))
        self.gate(payload_1, np.zeros((1, self.layer.spec.experts)))

    def prepare(self, policy: Policy | str) -> None:
        """Have a policy decide once on nothing, lest its code compile while a query waits.

        Raises:
            InvalidInputError: a joint policy without ``fallback``.
        """
        self.mesh.prepare(policy)

    def reach(self, policy: Policy | str | None = None) -> Reach:
        """Return the experts that live, and those of them that this client's links reach.

        Over ideal links, an expert is out of reach if the link to it has no subcarrier or no gain; see
        `airmoe.dispatch.why_out_of_reach`. A joint policy may give the link any subcarrier.

        Args:
            policy: that would decide; default the client's.
        """
        links = self.mesh.links()
        observed, layer = links.observed, self.layer
        slot = layer.slot(1, links)
        node_ER, living_ER = layer.placement.node_ER, askable(MeshCarrier(layer, links, Traffic()), slot)
        linked_ER = np.ones_like(living_ER)
        if self.transmission == "ideal":
            joint = as_policy(policy or self.policy).joint
            price = layer.ideal_price(links)
            subcarrier_NN = observed.best_subcarrier_NN if joint else price.subcarrier_NN
            linked_ER = np.isfinite(observed.energy_per_bit_j(subcarrier_NN)[self.manifest.node, node_ER])
        return Reach(np.any(living_ER, axis=1), np.any(living_ER & linked_ER, axis=1))

    def wait_for_nodes(self, nodes: int = 1, timeout_s: float = 5.0) -> int:
        """Wait until at least ``nodes`` nodes serve all their experts; return how many do.

        Raises:
            NoNodeReachableError: fewer were found in time.
        """
        return self.mesh.wait_for_nodes(nodes, timeout_s)

    def measure_links(self, timeout_s: float = PROBE_S) -> list[LinkMeasure]:
        """Probe the links to all nodes that are alive, and return what is known of the links to all nodes.

        Args:
            timeout_s: for the probes of each link.

        Raises:
            MeshError: the client is closed.
        """
        return self.mesh.measure_links(timeout_s)

    def predict(
        self,
        images_TCHW: NDArray[np.uint8] | NDArray[np.float32],
        *,
        policy: Policy | str | None = None,
        gate: GateFunction | None = None,
        links: Links | LinkSource | None = None,
        deadline_s: float = 2.0,
        min_experts: int = 1,
    ) -> Answer:
        """Classify images, asking other nodes as the policy decides.

        Args:
            images_TCHW: uint8, or float32 in [0, 1], of the size in the manifest; T >= 1.
            policy: decides; default the client's.
            gate: payloads (T, ...) and the observed SNR (T, E) in dB of the links to scores (T, E); default
                the exported one.
            links: the links between the nodes, or a source that is asked for them; default the client's.
            deadline_s: seconds for everything, 0 to 3600.
            min_experts: how many experts at least must answer about each image, 1 to all of the layer.

        Raises:
            InvalidInputError: wrong shape or dtype, values that are not finite or out of range, or more
                images than fit in one message; a joint policy without ``fallback``; links between another
                number of nodes.
            DeadlineError: there are more images than this client can prepare before the deadline.
            MeshError: the client is closed.
            NoExpertReachedError: fewer than ``min_experts`` answered about an image, or can be asked at all.
                The client's own expert answers as far as time allows; a server has none.
        """
        self.mesh.refuse_closed()
        begin_s, traffic = time.monotonic(), Traffic()
        number_within("deadline_s", deadline_s, 0, LONGEST_DEADLINE_S)
        end_s = begin_s + deadline_s
        with self._tally.failures():
            min_experts = self._checked_least(min_experts)
            decides = self.mesh.policy_of(0, as_policy(policy or self.policy), end_s, traffic)
            pixels_TCHW = checked_pixels(images_TCHW, self._input, self.layer.spec)
            links_now = self.mesh.links(links)
            payload_T = extracted(self._extractor, pixels_TCHW, end_s)
            carrier = MeshCarrier(self.layer, links_now, traffic, verifies=self._verifies)
            slot = self.layer.slot(len(payload_T), links_now, carrier.payload_bits(payload_T))
            slot = nearest(payload_T, carrier, slot)
            snr_db_TE = slot.observed_snr_db_TE
            assert snr_db_TE is not None  # a mesh has links
            scores_TE = self._scores(gate or self.gate, payload_T, snr_db_TE)
            with closing(carrier):
                dispatched = dispatch(
                    payload_T, scores_TE, decides, carrier, slot, deadline_s=end_s - time.monotonic()
                )
            _refuse_too_few(dispatched.arrived_TE, min_experts)
            weights_TE = mixing_weights(scores_TE, dispatched.arrived_TE)
            answer = Answer(
                mix(weights_TE, dispatched.deliveries),
                self.layer.spec.output.kind,
                scores_TE,
                weights_TE,
                dispatched,
                traffic.sent_bytes,
                traffic.received_bytes,
                time.monotonic() - begin_s,
                snr_db_TE,
                self.transmission,
                traffic.scheduler if decides.joint and dispatched.decided_by == decides.name else None,
                None
                if carrier.verification is None
                else carrier.verification.verified_TE(dispatched.arrived_TE),
            )
        self._tally.answered(answer)
        return answer

    def _checked_least(self, min_experts: int) -> int:
        experts = self.layer.spec.experts
        least = integer_at_least("min_experts", min_experts, 1)
        if least > experts:
            raise InvalidInputError("min_experts", least, f"at most {experts}, the experts of the layer")
        if least > 1 and (living := int(self.reach().living_E.sum())) < least:
            raise NoExpertReachedError(f"{living} experts can be asked; expected at least {least}")
        return least

    @property
    def is_server(self) -> bool:
        """Whether the client has no expert of its own."""
        return self.mesh.is_sole_source

    def _scores(
        self, gate: GateFunction, payload_T: NDArray[np.float32], snr_db_TE: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        shape_TE = len(payload_T), self.layer.spec.experts
        with telling(f"gate {getattr(gate, '__name__', type(gate).__name__)}, (T, E) = {shape_TE}"):
            scores_TE = real_array("scores", gate(payload_T, snr_db_TE))
            refuse_shape("scores", scores_TE, shape_TE, "(T, E)")
            refuse_where("scores", scores_TE, ~np.isfinite(scores_TE), "a finite number")
        return scores_TE


def _checked_verify(verify: object, placement: Sequence[Sequence[int]], transmission: str) -> bool:
    """Return whether outputs are to be verified by a second node."""
    verifies = integer_at_least("verify", verify, 1) > 1
    expected = None
    if verify not in (1, 2):
        expected = "1 or 2"
    elif verifies and transmission == "analog":
        expected = "1 over analog links: the noise is another one at each node, and so is the output"
    elif verifies and all(len(nodes) == 1 for nodes in placement):
        expected = "1: every expert of this run is at one node alone"
    if expected is not None:
        raise InvalidInputError("verify", verify, expected)
    return verifies


def _refuse_too_few(arrived_TE: NDArray[np.bool_], min_experts: int) -> None:
    answered_T = arrived_TE.sum(axis=1)
    if (few := int(answered_T.min())) < min_experts:
        raise NoExpertReachedError(
            f"experts that answered about image {int(answered_T.argmin())}: {few}; expected at least "
            f"{min_experts}. A policy that asks fewer never reaches them"
        )
