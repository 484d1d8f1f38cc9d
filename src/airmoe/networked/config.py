"""The settings of the networked method: what each of its federated stages does."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from airmoe.data.load import LARGEST_SIZE, USUAL_SIZE
from airmoe.data.partitions import make_partition
from airmoe.errors import InvalidInputError
from airmoe.federated.averaging import make_aggregation
from airmoe.files import AnyPath, as_path, read_toml_text
from airmoe.manifest import RadioSettings, Seed
from airmoe.networked.queries import Query, Roll, make_query, refuse_too_many
from airmoe.networked.syncs import Partial, Sync, make_sync
from airmoe.nn.build import GATES, PRETRAINED, known_backbone
from airmoe.runs.settings import (
    LearningRate,
    Positive,
    Section,
    Weight,
    named_in,
    parse_section,
    readable_by,
)


class DataSettings(Section):
    """Which images are used, and how clients share them.

    Attributes:
        name: see `airmoe.data.load_images`.
        size: height and width of the images, pixels; only a folder offers a choice.
        clients: how many, each with an expert.
        partition: see `airmoe.data.partition`.
    """

    name: str = "digits"
    size: Annotated[int, Field(ge=1, le=LARGEST_SIZE)] = USUAL_SIZE
    clients: Annotated[int, Field(ge=1, le=1000)] = 10
    partition: Annotated[str, readable_by(make_partition)] = "ring"


class ModelSettings(Section):
    """The networks.

    Attributes:
        backbone: see `airmoe.nn.build_extractor`. A pretrained one, "hf:NAME_OR_PATH", stays as it is, unless
            it is to be tuned.
        tuned: whether stage 1 trains a pretrained backbone, too.
        norm: of lenet5 and resnet18; None is "group" for both.
        width: of resnet18 and vit, or the number of filters of patches; None is the backbone's default.
        expert_hidden: width of an expert's hidden layer.
    """

    backbone: Annotated[str, readable_by(known_backbone)] = "lenet5"
    tuned: bool = False
    norm: Literal["group", "none"] | None = None
    width: Annotated[int, Field(ge=1, le=4096)] | None = None
    gate: Annotated[str, named_in(GATES, "linear")] = "linear"
    expert_hidden: Annotated[int, Field(ge=1, le=1 << 16)] = 256


class SgdSettings(Section):
    """Plain SGD with momentum, which begins anew at every client and round; the server aggregates.

    With ``participation`` below 1 each round is taken by a share of the clients, drawn anew.
    """

    rounds: Positive
    local_epochs: Positive = 1
    batch_size: Positive = 32
    learning_rate: LearningRate = 0.02
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    aggregation: Annotated[str, readable_by(make_aggregation)] = "mean"
    participation: Annotated[float, Field(gt=0, le=1)] = 1.0


class SpectralSettings(Section):
    """What FedSC has beside FedCE's settings, and FedAvg of local spectral contrast, too.

    Attributes:
        learning_rate: of SGD in the first round, in place of ``features.learning_rate``.
        weight_decay: of SGD.
        gradient_clip: the most that the Euclidean norm of a gradient may be.
        mu: the most that the squared norm of a projection may be.
        projector_hidden: width of the projector's hidden layer.
        projector_out: values of a projection, P.
        smallest_part: the smallest share of an image's area that a view shows.
        flip: whether views are mirrored.
        augmentation_passes: views of each image in a correlation matrix.
        noise_std: of the noise on every value of a correlation matrix; 0 is no privacy.
        delta: at which the privacy that this gives is reported.
    """

    learning_rate: LearningRate = 0.03
    weight_decay: Weight = 5e-4
    gradient_clip: Annotated[float, Field(gt=0, le=1e30)] = 3.0
    mu: Annotated[float, Field(gt=0, le=1e6)] = 4.0
    projector_hidden: Annotated[int, Field(ge=1, le=1 << 16)] = 256
    projector_out: Annotated[int, Field(ge=1, le=4096)] = 64
    smallest_part: Annotated[float, Field(gt=0, le=1)] = 0.2
    flip: bool = True
    augmentation_passes: Annotated[int, Field(ge=1, le=1000)] = 5
    noise_std: Weight = 0.0
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5


class PatchSettings(Section):
    """What filters of patches are fitted to; see `airmoe.networked.patch_sums`.

    Attributes:
        per_image: patches drawn from each image.
        rounds: of k-means.
    """

    per_image: Annotated[int, Field(ge=1, le=1000)] = 2
    rounds: Positive = 10


class FeatureSettings(SgdSettings):
    """Stage 1: federated averaging of the feature extractor and of what stands on it while it learns.

    ``method`` is "fedce", with a linear head and cross-entropy; "fedsc", self-supervised; or
    "local-spectral", FedAvg of what FedSC is for a single client. These two also read ``spectral``. With
    "patches" the filters of the backbone "patches" are fitted to sums over the clients instead, and only
    ``patches`` matters.
    """

    method: Literal["fedce", "fedsc", "local-spectral", "patches"] = "fedce"
    rounds: Positive = 80
    patches: PatchSettings = PatchSettings()
    spectral: SpectralSettings = SpectralSettings()
    weight_decay: Weight = 0.0


class ExpertSettings(Section):
    """Stage 2: each client trains its own expert on its own data, the feature extractor fixed.

    With ``method`` "sums" the expert is a linear discriminant instead, of the client's own class means and
    the covariance of all clients' features: see `airmoe.networked.sum_experts`. Only ``shrinkage``,
    ``mirrored`` and ``prior_images`` matter then.

    ``calibration`` is the share of a client's images that its expert is not trained on, and whose labels set
    its confidence instead: see `airmoe.networked.calibration`.
    """

    method: Literal["sgd", "sums"] = "sgd"
    shrinkage: Annotated[float, Field(gt=0, le=1)] = 0.05
    mirrored: bool = False
    prior_images: Annotated[float, Field(ge=0, le=1e9)] = 100.0
    epochs: Positive = 20
    batch_size: Positive = 32
    learning_rate: LearningRate = 0.02
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    calibration: Annotated[float, Field(ge=0, le=0.5)] = 0.0


METHODS = {"fedgate": ("topk", "fedavg"), "rangate": ("random-k", "fedavg"), "rollgate": ("roll", "fedavg")}
"""Whom clients ask in stage 3, and how their gates stay alike, by the paper's names."""


class GateSettings(SgdSettings):
    """Stage 3: clients ask one another's experts about their images, keep the answers, and train the gate.

    ``method`` is "fedgate", "rangate" or "rollgate": a name for a pair of rules, `METHODS`, of which
    ``query`` (see `airmoe.networked.queries`) and ``sync`` (see `airmoe.networked.syncs`) override one each.
    ``query_k`` is for the rules "topk" and "random-k".

    With ``method`` "closed-form" there is one round instead: a linear gate is fitted to sums over the
    clients; see `airmoe.networked.closed_form`. Only ``ridge`` and ``sharpness`` matter then.
    With "posterior" there is none: the score of an expert is how probable its classes are by the discriminant
    of all clients' sums; see `airmoe.nn.PosteriorGate`.

    With ``channel_aware`` the gate also looks at the SNR of the links. Experts are then asked with features
    as they arrive at each of a few SNRs, and the gate learns at SNRs drawn among these.
    """

    method: Literal["fedgate", "rangate", "rollgate", "closed-form", "posterior"] = "fedgate"
    query: Annotated[str, readable_by(make_query)] | None = None
    sync: Annotated[str, readable_by(make_sync)] | None = None
    ridge: Annotated[float, Field(gt=0, le=1e12)] = 10.0
    sharpness: Annotated[float, Field(gt=0, le=1e6)] = 20.0
    rounds: Positive = 60
    learning_rate: LearningRate = 0.2
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    query_k: Positive = 1
    expert_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    balance: Weight = 1e-2
    proximal: Weight = 1e-2
    channel_aware: bool = False

    @property
    def query_rule(self) -> Query:
        """Whom clients ask: ``query``, or the method's rule."""
        return make_query(self.query or METHODS[self.method][0], self.query_k)

    @property
    def sync_rule(self) -> Sync:
        """How the clients' gates stay alike: ``sync``, or the method's rule."""
        return make_sync(self.sync or METHODS[self.method][1])


class FederationSettings(Section):
    """How what clients send comes together.

    Attributes:
        secure_sums: the server learns what clients add up to, and no client's part; see
            `airmoe.federated.secure_sums`.
    """

    secure_sums: bool = False


class NetworkedConfig(Section):
    """A whole run of the networked method."""

    method: Literal["networked"] = "networked"
    seed: Seed = 0
    mesh: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")] = "lab"
    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    features: FeatureSettings = FeatureSettings()
    experts: ExpertSettings = ExpertSettings()
    gate: GateSettings = GateSettings()
    federation: FederationSettings = FederationSettings()
    links: RadioSettings = RadioSettings()

    @model_validator(mode="after")
    def _refuse_to_tune_what_is_new(self) -> NetworkedConfig:
        if self.model.tuned and not self.model.backbone.startswith(PRETRAINED):
            told = f"False: stage 1 trains {self.model.backbone} in any case"
            raise InvalidInputError("model.tuned", True, told)
        return self

    @property
    def sums_by_class(self) -> bool:
        """Whether clients' features are added up by class."""
        return self.experts.method == "sums" or self.gate.method == "posterior"

    @model_validator(mode="after")
    def _refuse_patches_of_another_backbone(self) -> NetworkedConfig:
        if (self.features.method == "patches") != (self.model.backbone == "patches"):
            other = "patches" if self.features.method == "patches" else "another than patches"
            told = f"{other} with features.method {self.features.method!r}"
            raise InvalidInputError("model.backbone", self.model.backbone, told)
        return self

    @model_validator(mode="after")
    def _refuse_what_would_do_nothing(self) -> NetworkedConfig:
        features, gate = self.features, self.gate
        if features.method != "fedsc" and features.spectral.noise_std:
            told = f"0 with features.method {features.method!r}: only fedsc sends matrices to add noise to"
            raise InvalidInputError("features.spectral.noise_std", features.spectral.noise_std, told)
        if features.method == "patches" and features.participation < 1:
            told = "1.0 with features.method 'patches': all clients are added up"
            raise InvalidInputError("features.participation", features.participation, told)
        if self.experts.method == "sums" and self.experts.calibration:
            told = "0 with experts.method 'sums': a discriminant has no training images to hold back from"
            raise InvalidInputError("experts.calibration", self.experts.calibration, told)
        if gate.method not in METHODS and gate.participation < 1:
            told = f"1.0 with gate.method {gate.method!r}: all clients are added up"
            raise InvalidInputError("gate.participation", gate.participation, told)
        return self

    @model_validator(mode="after")
    def _gate_is_possible(self) -> NetworkedConfig:
        gate, by = self.gate, f"gate.method {self.gate.method!r}"
        if trains := gate.method in METHODS:
            refuse_too_many(gate.query_rule, self.data.clients)
            if gate.participation < 1 and isinstance(gate.query_rule, Roll):
                told = "1.0 with gate.query 'roll': the one client that is asked has to be there"
                raise InvalidInputError("gate.participation", gate.participation, told)
        else:
            for name, value in (("gate.query", gate.query), ("gate.sync", gate.sync)):
                if value is not None:
                    raise InvalidInputError(name, value, f"it left out with {by}")
        if gate.method == "posterior" and gate.channel_aware:
            raise InvalidInputError("gate.channel_aware", True, f"False with {by}")
        if trains and isinstance(gate.sync_rule, Partial):
            trains, by = False, f"gate.sync {gate.sync!r}"
        if not trains and self.model.gate != "linear":
            raise InvalidInputError("model.gate", self.model.gate, f"'linear' with {by}")
        return self

    @model_validator(mode="after")
    def _refuse_sums_that_cannot_be_masked(self) -> NetworkedConfig:
        if not self.federation.secure_sums:
            return self
        if self.data.clients < 3:
            told = "at least 3 with federation.secure_sums: of two, each knows the other's part of the sum"
            raise InvalidInputError("data.clients", self.data.clients, told)
        for name, stage in (("features", self.features), ("gate", self.gate)):
            if stage.aggregation != "mean":
                told = "'mean' with federation.secure_sums: no other is made of a sum"
                raise InvalidInputError(f"{name}.aggregation", stage.aggregation, told)
            if round(stage.participation * self.data.clients) < 3:
                told = f"one that lets at least 3 of {self.data.clients} clients take part with secure sums"
                raise InvalidInputError(f"{name}.participation", stage.participation, told)
        if self.features.method == "fedsc" and self.features.participation < 1:
            told = "1.0 with fedsc and federation.secure_sums: else the server keeps each client's matrix"
            raise InvalidInputError("features.participation", self.features.participation, told)
        return self


def parse_config(text: str, origin: str) -> NetworkedConfig:
    """Return the settings of a networked run in a TOML text; see `parse_section`."""
    return parse_section(NetworkedConfig, text, origin)


def load_config(path: AnyPath) -> NetworkedConfig:
    """Return the settings of a networked run in a TOML file; see `parse_config`."""
    path = as_path(path)
    return parse_config(read_toml_text(path), path.name)
