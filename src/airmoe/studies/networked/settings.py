"""Settings of the study's curves: what is trained, by which stages, on which division of the images."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from airmoe.data.partitions import make_partition
from airmoe.errors import one_of
from airmoe.networked.baseline_table import METHODS, MOST_CENTRAL_EPOCHS
from airmoe.networked.config import (
    DataSettings,
    ExpertSettings,
    FeatureSettings,
    GateSettings,
    ModelSettings,
    NetworkedConfig,
)
from airmoe.nn.build import known_backbone
from airmoe.runs.settings import LearningRate, Positive, Weight, readable_by
from airmoe.studies.curves.settings import CurveSettings, Experts, Seeds, Values, none_is


def _known(name: str) -> str:
    if name not in METHODS:
        raise ValueError(one_of(name, METHODS))
    return name


# A TOML has arrays, not tuples.
OneValue = Annotated[tuple[int], Field(strict=False)]
Size = Annotated[int | None, Field(ge=1, le=10**6), *none_is("all")]
Width = Annotated[int | None, Field(ge=1, le=4096), *none_is("own")]

CPU = {"train_images": 5000, "test_images": 2000}
QUICK = {
    "data": "digits",
    "seeds": 2,
    "momentum": 0.9,
    "feature_rounds": 20,
    "expert_epochs": 10,
    "gate_rounds": 20,
    "expert_batch_size": 32,
    "gate_batch_size": 32,
}
SMOKE = QUICK | {
    "seeds": 1,
    "train_images": 160,
    "test_images": 60,
    "clients": 4,
    "feature_rounds": 2,
    "expert_epochs": 1,
    "gate_rounds": 2,
    "expert_hidden": 16,
}


class ImagesSettings(CurveSettings):
    """The images, and how clients share them.

    Attributes:
        data: as `airmoe.data.load_images` names them; official files are read from ``--data-dir``.
        train_images: how many training images, the first ones; None, "all" in a file, for all of them.
        test_images: how many held-out images, likewise.
        clients: how many.
        partition: as `airmoe.data.partition`.
    """

    seeds: Seeds = 3
    data: str = "cifar10"
    train_images: Size = None
    test_images: Size = None
    clients: Annotated[int, Field(ge=1, le=1000)] = 10
    partition: Annotated[str, readable_by(make_partition)] = "ring"


class TrainingSettings(ImagesSettings):
    """How a networked mixture is trained.

    Attributes:
        backbone: the feature extractor, as ``model.backbone`` of a run; "patches" for features of that name.
        width: of the backbone; None, "own" in a file, is its own.
        expert_hidden: width of an expert's hidden layer.
        features: how stage 1 learns, as ``features.method`` of a run.
        participation: share of the clients that take part in a round of stage 1.
        noise_std: noise for privacy on the correlation matrices of FedSC.
        feature_rounds: rounds of stage 1.
        local_epochs: passes over a client's images in a round of stage 1.
        batch_size: of stage 1.
        learning_rate: of stage 1.
        momentum: of stage 1.
        experts: how stage 2 learns, as ``experts.method`` of a run.
        expert_epochs: of stage 2.
        expert_batch_size: of stage 2.
        label_smoothing: of stage 2.
        calibration: share of a client's images that sets its expert's temperature.
        gate: how stage 3 learns the gate, as ``gate.method`` of a run.
        gate_rounds: of stage 3.
        gate_batch_size: of stage 3.
        query_k: experts that a client asks in stage 3, beside one at random.
    """

    SCALES: ClassVar[Mapping[str, Mapping[str, Any]]] = {"cpu": CPU, "quick": QUICK, "smoke": SMOKE}

    backbone: Annotated[str, readable_by(known_backbone)] = "lenet5"
    width: Width = None
    expert_hidden: Positive = 256
    features: str = "fedce"
    participation: Annotated[float, Field(gt=0, le=1)] = 1.0
    noise_std: Weight = 0.0
    feature_rounds: Positive = 45
    local_epochs: Positive = 1
    batch_size: Positive = 32
    learning_rate: LearningRate = 0.02
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    experts: str = "sgd"
    expert_epochs: Positive = 5
    expert_batch_size: Positive = 128
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    calibration: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    gate: str = "fedgate"
    gate_rounds: Positive = 50
    gate_batch_size: Positive = 128
    query_k: Positive = 1

    @model_validator(mode="after")
    def _can_be_trained(self) -> Self:
        self.training(0)
        return self

    def training(self, seed: int) -> NetworkedConfig:
        """Return how the mixture of this curve is trained; curves with the same training share a mixture."""
        return NetworkedConfig(
            seed=seed,
            data=DataSettings(name=self.data, clients=self.clients, partition=self.partition),
            model=ModelSettings(backbone=self.backbone, width=self.width, expert_hidden=self.expert_hidden),
            features=FeatureSettings.model_validate(
                {
                    "method": self.features,
                    "rounds": self.feature_rounds,
                    "local_epochs": self.local_epochs,
                    "batch_size": self.batch_size,
                    "learning_rate": self.learning_rate,
                    "momentum": self.momentum,
                    "participation": self.participation,
                    "spectral": {"noise_std": self.noise_std},
                }
            ),
            experts=ExpertSettings.model_validate(
                {
                    "method": self.experts,
                    "epochs": self.expert_epochs,
                    "batch_size": self.expert_batch_size,
                    "label_smoothing": self.label_smoothing,
                    "calibration": self.calibration,
                }
            ),
            gate=GateSettings.model_validate(
                {
                    "method": self.gate,
                    "rounds": self.gate_rounds,
                    "batch_size": self.gate_batch_size,
                    "query_k": self.query_k,
                }
            ),
        )


class MixtureSettings(TrainingSettings):
    """Scores of a mixture against one of its settings.

    Attributes:
        k: experts that answer about an image.
    """

    SWEPT_IS_X: ClassVar[bool] = True

    swept: Literal["k", "feature_rounds", "gate_rounds", "clients", "participation", "noise_std"] = "k"
    values: Values = (1, 2)
    k: Experts = 1

    @model_validator(mode="after")
    def _enough_experts(self) -> Self:
        if self.k > self.clients:
            raise ValueError(f"k is {self.k}; expected at most {self.clients}, the number of clients")
        return self


class PatternSettings(TrainingSettings):
    """Which share of a client's own-class images its gate sends to which expert.

    A row's abscissa is client x clients + expert.
    """

    SCALES: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cpu": CPU,
        "quick": QUICK,
        "smoke": SMOKE | {"values": (4,)},
    }

    swept: Literal["clients"] = "clients"
    values: OneValue = (10,)

    @property
    def x_values(self) -> tuple[float, ...]:
        """Every pair of a client and an expert."""
        return tuple(float(pair) for pair in range(self.values[0] ** 2))


class BaselineSettings(TrainingSettings):
    """One method beside the mixture, on the same data and budget.

    Attributes:
        method: one of `airmoe.networked.baseline_table.METHODS`.
        central_epochs: at most, of the central mixture.
    """

    SCALES: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cpu": CPU,
        "quick": QUICK,
        "smoke": SMOKE | {"values": (4,), "central_epochs": 3},
    }

    swept: Literal["clients"] = "clients"
    values: OneValue = (10,)
    method: Annotated[str, AfterValidator(_known)] = "networked"
    central_epochs: Positive = MOST_CENTRAL_EPOCHS


class AveragingSettings(ImagesSettings):
    """One averaged LeNet-5 against the epochs that its clients trained.

    The defaults are those of Flower's baseline niid_bench for FedAvg, but for the number of epochs.

    Attributes:
        epochs: of each client, in all.
        local_epochs: passes over a client's images in a round.
        batch_size: of SGD.
        learning_rate: of SGD.
        momentum: of SGD, begun anew at every client and round.
        weight_decay: of SGD.
    """

    SWEPT_IS_X: ClassVar[bool] = True
    SCALES: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {"data": "digits", "seeds": 2, "values": (10, 20)},
        "smoke": {
            "data": "digits",
            "seeds": 1,
            "values": (10,),
            "train_images": 160,
            "test_images": 60,
            "clients": 4,
        },
        "niid-bench": {"values": (50, 100, 150, 200, 250, 300, 350, 400, 450, 500)},
    }

    swept: Literal["epochs"] = "epochs"
    values: Values = (10, 20, 30, 40, 50)
    epochs: Positive = 1
    local_epochs: Positive = 10
    batch_size: Positive = 64
    learning_rate: LearningRate = 0.01
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Weight = 1e-5

    @model_validator(mode="after")
    def _whole_rounds(self) -> Self:
        for value in self.values:
            if value % self.local_epochs:
                raise ValueError(f"values of whole rounds of {self.local_epochs} local epochs")
        return self

    def training(self, seed: int) -> NetworkedConfig:
        """Return how the network is trained; its rounds are those of the last value."""
        return NetworkedConfig(
            seed=seed,
            data=DataSettings(name=self.data, clients=self.clients, partition=self.partition),
            model=ModelSettings(norm="none"),
            features=FeatureSettings(
                rounds=int(max(self.values)) // self.local_epochs,
                local_epochs=self.local_epochs,
                batch_size=self.batch_size,
                learning_rate=self.learning_rate,
                momentum=self.momentum,
                weight_decay=self.weight_decay,
            ),
        )
