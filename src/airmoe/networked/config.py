"""The settings of the networked method: what each of its federated stages does."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from airmoe.data.load import LARGEST_SIZE, USUAL_SIZE
from airmoe.data.partitions import make_partition
from airmoe.federated.averaging import make_aggregation
from airmoe.files import AnyPath, as_path, read_toml_text
from airmoe.manifest import RadioSettings, Seed
from airmoe.nn.build import GATES, known_backbone
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
        backbone: see `airmoe.nn.build_extractor`. A pretrained one, "hf:NAME_OR_PATH", stays as it is.
        norm: of lenet5 and resnet18; None is "group" for both.
        width: of resnet18 and vit; None is the backbone's default.
        expert_hidden: width of an expert's hidden layer.
    """

    backbone: Annotated[str, readable_by(known_backbone)] = "lenet5"
    norm: Literal["group", "none"] | None = None
    width: Annotated[int, Field(ge=1, le=4096)] | None = None
    gate: Annotated[str, named_in(GATES, "linear")] = "linear"
    expert_hidden: Annotated[int, Field(ge=1, le=1 << 16)] = 256


class SgdSettings(Section):
    """Plain SGD with momentum, which begins anew at every client and round; the server aggregates."""

    rounds: Positive
    local_epochs: Positive = 1
    batch_size: Positive = 32
    learning_rate: LearningRate = 0.02
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    aggregation: Annotated[str, readable_by(make_aggregation)] = "mean"


class FeatureSettings(SgdSettings):
    """Stage 1, FedCE: federated averaging of the feature extractor and a temporary linear head."""

    rounds: Positive = 80
    weight_decay: Weight = 0.0


class ExpertSettings(Section):
    """Stage 2: each client trains its own expert on its own data, the feature extractor fixed."""

    epochs: Positive = 20
    batch_size: Positive = 32
    learning_rate: LearningRate = 0.02
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1


class GateSettings(SgdSettings):
    """Stage 3, FedGate: federated averaging of the gate, everything else fixed.

    Each round a client asks, for each of its images, the ``query_k`` experts that its gate scores best and
    one more drawn at random. It keeps the answers for later rounds.

    With ``channel_aware`` the gate also looks at the SNR of the links. Experts are then asked with features
    as they arrive at each of a few SNRs, and the gate learns at SNRs drawn among these.

    With ``method`` "closed-form" there is one round instead: a linear gate is fitted to sums over the
    clients; see `airmoe.networked.closed_form`. Only ``ridge`` and ``sharpness`` matter then.
    """

    method: Literal["fedgate", "closed-form"] = "fedgate"
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
    links: RadioSettings = RadioSettings()

    @model_validator(mode="after")
    def _refuse_other_closed_forms(self) -> NetworkedConfig:
        if self.gate.method == "closed-form":
            if self.gate.channel_aware:
                raise ValueError("gate.channel_aware is True; expected False with the closed form")
            if self.model.gate != "linear":
                raise ValueError(f"model.gate is {self.model.gate!r}; expected 'linear' with the closed form")
        return self


def parse_config(text: str, origin: str) -> NetworkedConfig:
    """Return the settings of a networked run in a TOML text; see `parse_section`."""
    return parse_section(NetworkedConfig, text, origin)


def load_config(path: AnyPath) -> NetworkedConfig:
    """Return the settings of a networked run in a TOML file; see `parse_config`."""
    path = as_path(path)
    return parse_config(read_toml_text(path), path.name)
