"""One client's side of all stages, and all of the clients in this process.

What a node has is its images, its own expert, and the shared networks as the server told them. Nothing but
messages gets from node to server or from node to node, so nodes may as well be processes elsewhere.

Shape suffixes: T items, C channels, H height, W width, F features, E experts.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

from torch import Tensor

from airmoe.errors import InvalidInputError, one_of, require
from airmoe.federated import Client, Engine, Loop, State
from airmoe.networked import closed_form
from airmoe.networked.class_sums import ClassSums, ClassSumsClient
from airmoe.networked.client_data import ClientData
from airmoe.networked.closed_form import GateSumsClient
from airmoe.networked.config import NetworkedConfig
from airmoe.networked.correlated_averaging import sums_of
from airmoe.networked.experts import ExpertClient
from airmoe.networked.features import feature_network, features_of
from airmoe.networked.fedce import FedCeClient
from airmoe.networked.fedgate import FedGateClient, exchanges_of
from airmoe.networked.fedsc import EXCHANGES as SPECTRAL_EXCHANGES
from airmoe.networked.fedsc import SPECTRAL, SpectralClient
from airmoe.networked.gates import initial_gate, standardise
from airmoe.networked.held_out import AnsweringClient
from airmoe.networked.moments import Moments, MomentsClient
from airmoe.networked.patch_sums import PatchSums, PatchSumsClient
from airmoe.networked.sum_experts import SumExpertClient
from airmoe.nn import ClassifierExpert, DiscriminantExpert, MlpExpert, PatchExtractor
from airmoe.runs.evaluation import outputs_in_batches

FEATURES, CLASS_SUMS, EXPERTS = "features", "class sums", "experts"
STATISTICS, HELD_OUT, GATE = "statistics", "held-out", "gate"
"""What a node takes part in, in this order."""


class Nodes(Protocol):
    """Where the clients of a run are."""

    @property
    def clients(self) -> int:
        """How many there are, numbered from 0."""
        ...

    def engine(self, stage: str) -> Engine:
        """Return what reaches the clients in a stage: `FEATURES`, `EXPERTS`, ..."""
        ...

    def settle(self, extractor: State, experts: Mapping[int, State], told: State | None = None) -> None:
        """See that every node has the trained extractor and its own expert, as far as it lacks them.

        Args:
            extractor: its weights; nothing if it is frozen.
            experts: the weights by client that the engine of `EXPERTS` holds.
            told: what clients were told to make their experts of; None before they were.
        """
        ...

    def standardise(self, moments: State) -> None:
        """See that every node has the moments of the features."""
        ...


class Workspace:
    """The networks that the nodes of one process compute in; each step loads the weights that it needs.

    Args:
        config: the run.
        image_shape: (channels, height, width).
        classes: number of classes.
        experts: E.
    """

    def __init__(
        self, config: NetworkedConfig, image_shape: Sequence[int], classes: int, experts: int
    ) -> None:
        self.network = feature_network(config, image_shape, classes)
        self.gate = initial_gate(config, self.network.extractor.features, experts)
        self.classes, self.experts = classes, experts


class NetworkedNode:
    """A client of the networked method, through all of its stages.

    Args:
        config: the run.
        images_TCHW: float32 in [0, 1], this client's images.
        labels_T: int64, their classes.
        client: its number, that of its expert.
        workspace: the networks to compute in.
        noise_seed: of the noise for privacy, which who knows it can subtract; default the run's seed.
    """

    def __init__(
        self,
        config: NetworkedConfig,
        images_TCHW: Tensor,
        labels_T: Tensor,
        client: int,
        workspace: Workspace,
        noise_seed: int | None = None,
    ) -> None:
        if not len(labels_T):
            raise InvalidInputError(f"images of client {client}", 0, "at least one to train on")
        self._config, self._images, self._labels = config, images_TCHW, labels_T
        self._client, self._workspace, self._noise_seed = client, workspace, noise_seed
        self._features_TF: Tensor | None = None
        self._expert: ClassifierExpert | None = None

    @property
    def features_TF(self) -> Tensor:
        """The features of its images, by the extractor in the workspace."""
        if self._features_TF is None:
            (self._features_TF,) = features_of(self._workspace.network.extractor, [self._images])
        return self._features_TF

    @property
    def expert(self) -> ClassifierExpert:
        """Its own expert.

        Raises:
            InvalidInputError: it has none yet.
        """
        if self._expert is None:
            raise InvalidInputError(f"expert of client {self._client}", None, f"stage {EXPERTS} before")
        return self._expert

    def take_extractor(self, weights: State) -> None:
        """Take the extractor's weights; features of an earlier one are forgotten."""
        self._workspace.network.extractor.load_state_dict(weights)
        self._features_TF = None

    def adopt(self, expert: State) -> None:
        """Take weights as those of its own expert."""
        made = self._new_discriminant() if self._config.experts.method == "sums" else self._new_expert()
        made.load_state_dict(expert)
        self._expert = made.eval()

    def client(self, stage: str) -> Client:
        """Return what takes this client's steps in a stage.

        Raises:
            InvalidInputError: there is no such stage, or an earlier one is missing.
        """
        made = {
            FEATURES: self._in_features,
            CLASS_SUMS: self._in_class_sums,
            EXPERTS: self._in_experts,
            STATISTICS: lambda: MomentsClient(self.features_TF),
            HELD_OUT: lambda: AnsweringClient(partial(outputs_in_batches, self.expert)),
            GATE: self._in_gate,
        }
        if stage not in made:
            raise InvalidInputError("stage", stage, one_of(stage, made))
        return self._masking(made[stage](), stage)

    def _masking(self, client: Client, stage: str) -> Client:
        """Return a client that masks what it replies where the server needs only sums."""
        if not self._config.federation.secure_sums or stage not in (FEATURES, CLASS_SUMS, STATISTICS, GATE):
            return client
        require("train", "cryptography", by="federation.secure_sums")
        from airmoe.federated.masking_client import MaskingClient

        exchanges, sums, by_samples = self._sums_of(stage)
        others = [name for name in exchanges if name not in sums]
        return MaskingClient(client, self._client, stage, sums, by_samples=by_samples, others=others)

    def _sums_of(self, stage: str) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
        """Return the exchanges of a stage, those that are sums, and whether these are weighted by samples.

        A client knows this by itself: a server that could tell it could ask for replies without masks.
        """
        if stage == FEATURES:
            return self._sums_of_features()
        if stage == GATE and self._config.gate.method == "closed-form":
            return closed_form.EXCHANGES, closed_form.EXCHANGES[-1:], False
        if stage == GATE:
            exchanges = exchanges_of(self._config.gate.sync_rule)
            return exchanges, exchanges[-1:], True
        of_stage = ClassSums if stage == CLASS_SUMS else Moments
        return of_stage.exchanges, of_stage.exchanges[:1], of_stage.by_samples

    def _sums_of_features(self) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
        settings = self._config.features
        if settings.method == "patches":
            return PatchSums.exchanges, PatchSums.sums, PatchSums.by_samples
        if settings.method == "fedsc":
            return SPECTRAL_EXCHANGES, sums_of(settings.participation), True
        return ("train",), ("train",), True

    def _in_features(self) -> Client:
        network, settings, seed = self._workspace.network, self._config.features, self._config.seed
        if settings.method == "patches":
            assert isinstance(network.extractor, PatchExtractor)  # the settings say so
            side, per_image = network.extractor.side, settings.patches.per_image
            return PatchSumsClient(self._images, side, per_image, seed, self._client)
        if settings.method in SPECTRAL:
            clients = self._workspace.experts
            return SpectralClient(
                network, self._images, settings, clients, seed, self._client, self._noise_seed
            )
        return FedCeClient(network, self._images, self._labels, settings, seed, self._client)

    def _in_class_sums(self) -> Client:
        return ClassSumsClient(self._features_by, self._labels, self._workspace.classes, self._mirrored)

    def _in_experts(self) -> Client:
        if self._config.experts.method == "sums":
            prior = self._config.experts.prior_images
            return SumExpertClient(
                self._features_by, self._labels, self._mirrored, prior, self._new_discriminant, self.adopt
            )
        return ExpertClient(
            self._config.experts,
            self._labels,
            self._config.seed,
            self._client,
            self._features_by,
            self._new_expert,
            self.adopt,
        )

    def _in_gate(self) -> Client:
        expert, config = partial(outputs_in_batches, self.expert), self._config
        if config.gate.method == "closed-form":
            return GateSumsClient(
                expert,
                self.features_TF,
                self._labels,
                self._client,
                self._workspace.experts,
                channel_aware=config.gate.channel_aware,
                seed=config.seed,
            )
        gate = self._workspace.gate
        return FedGateClient(
            gate, expert, self.features_TF, self._labels, config.gate, config.seed, self._client
        )

    @property
    def _mirrored(self) -> Callable[[], Tensor] | None:
        """What returns the features of its images mirrored, where these count, too."""

        def mirrored() -> Tensor:
            (features_TF,) = features_of(self._workspace.network.extractor, [self._images.flip(3)])
            return features_TF

        return mirrored if self._config.experts.mirrored else None

    def _features_by(self, extractor: State) -> Tensor:
        """Return the features of its images by an extractor that the server told, if it told one."""
        if extractor:
            self.take_extractor(extractor)
        return self.features_TF

    def _new_discriminant(self) -> DiscriminantExpert:
        return DiscriminantExpert(self._workspace.network.extractor.features, self._workspace.classes)

    def _new_expert(self) -> MlpExpert:
        features = self._workspace.network.extractor.features
        return MlpExpert(features, self._workspace.classes, self._config.model.expert_hidden)


class NodesHere:
    """All nodes of a run in this process; they take their steps one after another in one workspace.

    Args:
        config: the run.
        data: of all clients.
    """

    def __init__(self, config: NetworkedConfig, data: ClientData) -> None:
        shape, self.clients = data.test_images_TCHW.shape[1:], len(data.labels_T)
        self._workspace = Workspace(config, shape, len(data.class_names), self.clients)
        each = enumerate(zip(data.images_TCHW, data.labels_T, strict=True))
        self._nodes = [
            NetworkedNode(config, images, labels, client, self._workspace)
            for client, (images, labels) in each
        ]

    @property
    def experts(self) -> list[ClassifierExpert]:
        """The experts of all nodes."""
        return [node.expert for node in self._nodes]

    def engine(self, stage: str) -> Loop:
        """Return a loop over the clients of a stage."""
        return Loop([node.client(stage) for node in self._nodes])

    def settle(self, extractor: State, experts: Mapping[int, State], told: State | None = None) -> None:
        """Load the extractor into the workspace, and give the nodes their experts."""
        if extractor:
            self._workspace.network.extractor.load_state_dict(extractor)
        for client, weights in experts.items():
            self._nodes[client].adopt(weights)

    def standardise(self, moments: State) -> None:
        """Set the moments of the gate in the workspace."""
        standardise(self._workspace.gate, moments)
