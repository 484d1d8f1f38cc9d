"""A client of the mesh: extracts features, routes, asks experts, mixes what they answer.

Shape suffixes: T items, E experts, C channels or classes, H height, W width, P (item, expert) pairs.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import get_args

import numpy as np
import zenoh
from numpy.typing import NDArray

from airmoe.checks import integer_at_least, number_within
from airmoe.dispatch import Dispatched, dispatch
from airmoe.dispatch.mixing import mix, mixing_weights
from airmoe.errors import InvalidInputError, NoNodeReachableError
from airmoe.links import Links, Ofdma, RayleighFading
from airmoe.manifest import (
    EXPERT_ONNX,
    EXTRACTOR_ONNX,
    GATE_ONNX,
    INPUT,
    MeshTransmission,
    RadioSpec,
    read_manifest,
)
from airmoe.mesh.carrier import MeshCarrier
from airmoe.mesh.frame import BYTES_PER_VALUE, MAX_BODY_BYTES, WireType
from airmoe.mesh.networks import OnnxGate, OnnxNetwork
from airmoe.mesh.scheduled_policy import ScheduledPolicy, Schedulers, SoleSourcePolicy
from airmoe.mesh.session import open_session
from airmoe.randomness import stream
from airmoe.runfolder import checked_file
from airmoe.scheduling import Cost, Policy, Slot, TopK
from airmoe.scheduling.policy import as_joint

LONGEST_DEADLINE_S = 3600.0

GateFunction = Callable[[NDArray[np.float32], NDArray[np.float64] | None], NDArray[np.float32]]
"""Payloads (T, ...) and the SNR (T, E) in dB of the links, as observed, to scores (T, E)."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What the mesh answered to a batch of images.

    Attributes:
        probability_TC: float32, class probabilities.
        scores_TE: float64, the gate's scores.
        weights_TE: float64, the weight of each output in the answer; a row sums to 1.
        dispatched: which experts were asked, which answered, joules, what was routed again or degraded.
        sent_bytes: bytes of all requests, as framed.
        received_bytes: bytes of all replies, as framed.
        elapsed_s: seconds from images to answers.
        snr_db_TE: float64, dB, the SNR of each item's link to each expert as gate and policy saw it; 30 dB to
            the client's own.
        transmission: "ideal" or "analog": what the links did to payloads, and how they were priced. A joint
            policy decides by ideal prices all the same.
    """

    probability_TC: NDArray[np.float32]
    scores_TE: NDArray[np.float64]
    weights_TE: NDArray[np.float64]
    dispatched: Dispatched[NDArray[np.float32]]
    sent_bytes: int
    received_bytes: int
    elapsed_s: float
    snr_db_TE: NDArray[np.float64]
    transmission: MeshTransmission


def simulated_links(radio: RadioSpec, nodes: int) -> Links:
    """Return the links of a run's simulated radio: slot 0 of its Rayleigh fading."""
    ofdma = Ofdma(subcarriers=radio.subcarriers, subcarrier_hz=radio.subcarrier_hz, power_w=radio.power_w)
    return RayleighFading(nodes, ofdma, radio.mean_snr_db, radio.seed).at(0)


class MeshClient:
    """Asks a mesh on behalf of one client, whose extractor, gate and own expert run in this process.

    A server (``clients/server``) has no expert of its own: where nobody else answers, nobody does.

    ``policy``, ``gate`` and ``links`` may be set at any time. A gate maps payloads (T, ...) and the observed
    SNR (T, E) in dB of the links to all experts to scores (T, E). A joint policy is decided by a scheduler of
    the mesh that runs the same one, within half of a query's time; where none does, the policy's ``fallback``
    decides here, which is logged and told in ``Dispatched.decided_by``. A server, the only source of its
    mesh, decides by a joint policy itself.

    Args:
        client_folder: ``clients/<id>`` or ``clients/server`` of a run, with ``shared/`` beside ``clients/``.
        connect: addresses of one or more nodes; the others are learnt from them.
        policy: default top-1.
        links: simulated links between the nodes; default those of the run.
        wire_type: "float32", "float16" or "bfloat16" on the wire.
        session: an open session to use instead of opening one; it is left open.
        transmission: "ideal" links, or "analog" ones, which add noise to what other nodes are sent; default
            the run's.
        seed: of that noise, >= 0.

    Raises:
        RunFolderError: a file of the folder is missing or damaged.
        AddressError: an address is malformed or not loopback.
        InvalidInputError: a folder with an expert alone; unknown wire type or transmission; a joint policy
            without a ``fallback``; links between another number of nodes; a seed below 0.
    """

    def __init__(
        self,
        client_folder: Path,
        connect: Sequence[str] = (),
        *,
        policy: Policy | None = None,
        links: Links | None = None,
        wire_type: WireType = "float32",
        session: zenoh.Session | None = None,
        transmission: MeshTransmission | None = None,
        seed: int = 0,
    ) -> None:
        self.manifest = manifest = read_manifest(client_folder)
        if not manifest.asks:
            expected = f"a client that asks: this one serves expert {manifest.expert} alone, and has no gate"
            raise InvalidInputError("client_folder", str(client_folder), expected)
        self.transmission: MeshTransmission = transmission or manifest.radio.transmission
        for name, value, known in (
            ("wire_type", wire_type, tuple(BYTES_PER_VALUE)),
            ("transmission", self.transmission, get_args(MeshTransmission)),
        ):
            if value not in known:
                raise InvalidInputError(name, value, f"one of {', '.join(known)}")
        noise = stream(integer_at_least("seed", seed, 0), "mesh noise", manifest.client)
        spec, payload, classes = manifest.input, tuple(manifest.payload), len(manifest.classes)
        self._extractor = OnnxNetwork(
            checked_file(client_folder, manifest, EXTRACTOR_ONNX),
            {INPUT: (spec.channels, spec.height, spec.width)},
            payload,
        )
        self.gate: GateFunction = OnnxGate(checked_file(client_folder, manifest, GATE_ONNX), manifest)
        own_expert = None
        if manifest.expert is not None:
            expert_file = checked_file(client_folder, manifest, EXPERT_ONNX)
            own_expert = OnnxNetwork(expert_file, {INPUT: payload}, (classes,))
        self._connect = connect
        self._links = self._checked(links or simulated_links(manifest.radio, manifest.nodes))
        self.policy = policy or TopK(1)
        self._session = open_session(connect=connect) if session is None else session
        self._opened = session is None
        self.schedulers = Schedulers(self._session, manifest)
        self.carrier = MeshCarrier(
            self._session, manifest, own_expert, self._links, wire_type, self.transmission, noise
        )

    def __enter__(self) -> "MeshClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def policy(self) -> Policy:
        """Who decides which experts answer."""
        return self._policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        """Let another policy decide; what decides here does so once now, lest it compile while a query waits.

        Raises:
            InvalidInputError: a joint policy without ``fallback``.
        """
        joint = as_joint(policy)
        nothing_1E = np.zeros((1, self.manifest.experts))
        free = Cost(nothing_1E)
        one = replace(self._slot(1), bits_T=np.ones(1))
        if joint is None or self._is_server:
            policy.route(nothing_1E, free, one)
        if joint is not None:
            joint.fallback.route(nothing_1E, free, one)
        self._policy, self._joint = policy, joint

    @property
    def links(self) -> Links:
        """The simulated links between all nodes; gate and policy see them as observed.

        Others may be set from one query to the next, as a channel changes.
        """
        return self._links

    @links.setter
    def links(self, links: Links) -> None:
        """Let gate, policy, noise and price follow other links.

        Raises:
            InvalidInputError: they join another number of nodes.
        """
        self.carrier.links = self._links = self._checked(links)

    def close(self) -> None:
        """Leave the mesh. Closing twice does no harm."""
        self.carrier.close()
        self.schedulers.close()
        if self._opened and not self._session.is_closed():
            self._session.close()

    def wait_for_nodes(self, experts: int = 1, timeout_s: float = 5.0) -> int:
        """Wait until at least so many experts are alive; return how many are.

        Raises:
            NoNodeReachableError: fewer were found in time.
        """
        found = self.carrier.liveliness.wait(experts, timeout_s)
        if found < experts:
            manifest = self.manifest
            raise NoNodeReachableError(
                f"found {found} nodes of mesh {manifest.mesh!r}, model {manifest.model_hash}, "
                f"at {', '.join(self._connect) or 'the session'} within {timeout_s} s; expected {experts}"
            )
        return found

    def predict(
        self, images_TCHW: NDArray[np.uint8] | NDArray[np.float32], *, deadline_s: float = 2.0
    ) -> Answer:
        """Classify images, asking other nodes as the policy decides.

        Args:
            images_TCHW: uint8, or float32 in [0, 1], of the size in the manifest; T >= 1.
            deadline_s: seconds for everything, 0 to 3600.

        Raises:
            InvalidInputError: wrong shape or dtype, values that are not finite or out of range, or more
                images than fit in one message.
            NoExpertReachedError: nobody answered an image, and a server has no expert of its own.
        """
        begin = time.monotonic()
        number_within("deadline_s", deadline_s, 0, LONGEST_DEADLINE_S)
        sent, received = self._counted_bytes()
        policy = self._policy
        if self._joint is not None:
            policy = (
                SoleSourcePolicy(self._joint, self.schedulers)
                if self._is_server
                else ScheduledPolicy(self._joint, self.schedulers, begin + deadline_s)
            )
        payload_T = self._extractor(self._as_pixels(images_TCHW))
        slot = self._slot(len(payload_T))
        snr_db_TE = slot.observed_snr_db_TE
        assert snr_db_TE is not None  # a mesh has links
        scores_TE = self.gate(payload_T, snr_db_TE).astype(np.float64)
        remaining_s = deadline_s - (time.monotonic() - begin)
        dispatched = dispatch(payload_T, scores_TE, policy, self.carrier, slot, None, deadline_s=remaining_s)
        sent_now, received_now = self._counted_bytes()
        weights_TE = mixing_weights(scores_TE, dispatched.arrived_TE)
        return Answer(
            mix(weights_TE, dispatched.deliveries),
            scores_TE,
            weights_TE,
            dispatched,
            sent_now - sent,
            received_now - received,
            time.monotonic() - begin,
            snr_db_TE,
            self.transmission,
        )

    @property
    def _is_server(self) -> bool:
        return self.manifest.expert is None

    def _slot(self, items: int) -> Slot:
        manifest = self.manifest
        source_T = np.full(items, manifest.client, np.int64)
        return Slot(source_T, np.arange(manifest.experts), self._links.observed, manifest.layer)

    def _checked(self, links: Links) -> Links:
        if links.nodes != self.manifest.nodes:
            expected = f"{self.manifest.nodes}, those of {self.manifest.experts} experts"
            raise InvalidInputError(
                "links.nodes", links.nodes, expected + " and the server" * self._is_server
            )
        return links

    def _counted_bytes(self) -> tuple[int, int]:
        asked = (self.carrier, self.schedulers)
        return sum(each.sent_bytes for each in asked), sum(each.received_bytes for each in asked)

    def _as_pixels(self, images_TCHW: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.float32]:
        spec = self.manifest.input
        shape = (spec.channels, spec.height, spec.width)
        if images_TCHW.ndim != 4 or images_TCHW.shape[1:] != shape or not len(images_TCHW):
            raise InvalidInputError(
                "images", images_TCHW.shape, f"shape (T, {', '.join(map(str, shape))}), T >= 1"
            )
        if len(images_TCHW) > (most := MAX_BODY_BYTES // (4 * self.manifest.features)):
            raise InvalidInputError("images", images_TCHW.shape, f"at most {most} images at once")
        if images_TCHW.dtype == np.uint8:
            from airmoe.data import as_pixels  # loads Pillow, which a node that only serves has no use for

            return as_pixels(images_TCHW)  # type: ignore[arg-type]
        if images_TCHW.dtype != np.float32:
            raise InvalidInputError("images", str(images_TCHW.dtype), "uint8, or float32 in [0, 1]")
        if not ((images_TCHW >= 0) & (images_TCHW <= 1)).all():
            raise InvalidInputError("images", "a value outside [0, 1] or NaN", "float32 in [0, 1]")
        return images_TCHW  # type: ignore[return-value]
