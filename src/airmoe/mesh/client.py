"""A client of the mesh: extracts features, routes, asks experts, mixes what they answer.

Shape suffixes: T items, E experts, C channels or classes, H height, W width, P (item, expert) pairs.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import zenoh
from numpy.typing import NDArray

from airmoe.errors import InvalidInputError, NoNodeReachableError
from airmoe.links import Links, Ofdma, RayleighFading
from airmoe.links.checks import number_within
from airmoe.mesh.carrier import MeshCarrier
from airmoe.mesh.frame import BYTES_PER_VALUE, MAX_BODY_BYTES, WireType
from airmoe.mesh.networks import OnnxNetwork
from airmoe.mesh.scheduled_policy import ScheduledPolicy, Schedulers
from airmoe.mesh.session import open_session
from airmoe.runfolder import EXPERT_ONNX, EXTRACTOR_ONNX, GATE_ONNX, RadioSpec, checked_file, read_manifest
from airmoe.scheduling import Policy, Slot, TopK
from airmoe.scheduling.dispatch import Delivery, Dispatched, dispatch
from airmoe.scheduling.policy import as_joint

LONGEST_DEADLINE_S = 3600.0


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
    """

    probability_TC: NDArray[np.float32]
    scores_TE: NDArray[np.float64]
    weights_TE: NDArray[np.float64]
    dispatched: Dispatched[NDArray[np.float32]]
    sent_bytes: int
    received_bytes: int
    elapsed_s: float


def simulated_links(radio: RadioSpec, nodes: int) -> Links:
    """Return the links of a run's simulated radio: slot 0 of its Rayleigh fading."""
    ofdma = Ofdma(subcarriers=radio.subcarriers, subcarrier_hz=radio.subcarrier_hz, power_w=radio.power_w)
    return RayleighFading(nodes, ofdma, radio.mean_snr_db, radio.seed).at(0)


class MeshClient:
    """Asks a mesh on behalf of one client, whose extractor, gate and own expert run in this process.

    ``policy`` and ``gate`` (features (T, F) to scores (T, E)) are plain attributes: set others at any time.
    A joint policy is decided by a scheduler of the mesh that runs the same one, within half of a query's
    time; where none does, the policy's ``fallback`` decides here, which is logged and told in
    ``Dispatched.decided_by``.

    Args:
        client_folder: ``clients/<id>`` of a run, with ``shared/`` beside ``clients/``.
        connect: addresses of one or more nodes; the others are learnt from them.
        policy: default top-1.
        links: simulated links that price transfers; default those of the run.
        wire_type: "float32", "float16" or "bfloat16" on the wire.
        session: an open session to use instead of opening one; it is left open.

    Raises:
        RunFolderError: a file of the folder is missing or damaged.
        AddressError: an address is malformed or not loopback.
        InvalidInputError: unknown wire type, or a joint policy without a ``fallback``.
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
    ) -> None:
        if wire_type not in BYTES_PER_VALUE:
            raise InvalidInputError("wire_type", wire_type, f"one of {', '.join(BYTES_PER_VALUE)}")
        self.manifest = manifest = read_manifest(client_folder)
        spec = manifest.input
        extractor, gate, own_expert = (
            OnnxNetwork(checked_file(client_folder, manifest, name), item_shape, width)
            for name, item_shape, width in (
                (EXTRACTOR_ONNX, (spec.channels, spec.height, spec.width), manifest.features),
                (GATE_ONNX, (manifest.features,), manifest.experts),
                (EXPERT_ONNX, (manifest.features,), len(manifest.classes)),
            )
        )
        self._extractor = extractor
        self.gate: Callable[[NDArray[np.float32]], NDArray[np.float32]] = gate
        links = links or simulated_links(manifest.radio, manifest.experts)
        self._observed, self._connect = links.observed, connect
        self._slot_of_one = Slot(np.array([manifest.client]), np.arange(manifest.experts), links.observed)
        self.policy = policy or TopK(1)
        self._session = open_session(connect=connect) if session is None else session
        self._opened = session is None
        self.schedulers = Schedulers(self._session, manifest)
        self.carrier = MeshCarrier(self._session, manifest, own_expert, links, wire_type)

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
        (joint.fallback if joint else policy).route(nothing_1E, nothing_1E, self._slot_of_one)
        self._policy, self._joint = policy, joint

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
        """
        begin = time.monotonic()
        number_within("deadline_s", deadline_s, 0, LONGEST_DEADLINE_S)
        sent, received = self._counted_bytes()
        policy = self._policy
        if self._joint is not None:
            policy = ScheduledPolicy(self._joint, self.schedulers, begin + deadline_s)
        features_TF = self._extractor(self._as_pixels(images_TCHW))
        scores_TE = self.gate(features_TF).astype(np.float64)
        source_T = np.full(len(features_TF), self.manifest.client, np.int64)
        placement_E = np.arange(self.manifest.experts)
        slot = Slot(source_T, placement_E, self._observed, self.manifest.layer)
        remaining_s = deadline_s - (time.monotonic() - begin)
        dispatched = dispatch(
            features_TF, scores_TE, policy, self.carrier, slot, None, deadline_s=remaining_s
        )
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
        )

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
            return images_TCHW.astype(np.float32) / np.float32(255)
        if images_TCHW.dtype != np.float32:
            raise InvalidInputError("images", str(images_TCHW.dtype), "uint8, or float32 in [0, 1]")
        if not ((images_TCHW >= 0) & (images_TCHW <= 1)).all():
            raise InvalidInputError("images", "a value outside [0, 1] or NaN", "float32 in [0, 1]")
        return images_TCHW  # type: ignore[return-value]


def mixing_weights(scores_TE: NDArray[np.float64], arrived_TE: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return (T, E): scores of what arrived, made to sum to 1 over each row; zero elsewhere.

    Equal shares where all scores that arrived are zero. The same as ``airmoe.nn.mixing_weights`` with
    ``normalise="chosen"``, without PyTorch.
    """
    weights_TE = np.where(arrived_TE, scores_TE, 0.0)
    weights_TE = np.where(weights_TE.any(axis=1, keepdims=True), weights_TE, arrived_TE)
    return np.asarray(weights_TE / weights_TE.sum(axis=1, keepdims=True))


def mix(
    weights_TE: NDArray[np.float64], deliveries: Sequence[Delivery[NDArray[np.float32]]]
) -> NDArray[np.float32]:
    """Return (T, C): for each item the sum of its outputs times their weights, as ``airmoe.nn.combine``."""
    item_P = np.concatenate([delivery.item_P for delivery in deliveries])
    expert_P = np.concatenate([delivery.expert_P for delivery in deliveries])
    output_PC = np.concatenate([delivery.output_P for delivery in deliveries])
    by_item = np.argsort(item_P, kind="stable")
    weighted_PC = weights_TE[item_P, expert_P].astype(np.float32)[by_item, None] * output_PC[by_item]
    return np.add.reduceat(weighted_PC, np.searchsorted(item_P[by_item], np.arange(len(weights_TE))))
