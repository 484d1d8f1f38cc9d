"""The settings of two-stage training: a server's gate and experts, without and then with a channel."""

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from airmoe.errors import InvalidInputError
from airmoe.links import make_process
from airmoe.manifest import MeshTransmission, RadioSettings, Seed
from airmoe.radio import make_transmission
from airmoe.runs.settings import LearningRate, Positive, Section, Weight


def expected_by(error: InvalidInputError, text: str) -> str:
    """Return what was expected of a text, or of a part of it."""
    return error.expected if error.value == text else f"{error.name} to be {error.expected}"


def _readable_by(read: Callable[[str], object]) -> AfterValidator:
    def check(text: str) -> str:
        try:
            read(text)
        except InvalidInputError as error:
            raise ValueError(expected_by(error, text)) from None
        return text

    return AfterValidator(check)


Share = Annotated[float, Field(ge=0, le=1)]
SnrLaw = Annotated[str, _readable_by(make_process)]
"""A form of `airmoe.links.make_process`."""

TransmissionForm = Annotated[str, _readable_by(make_transmission)]
"""A form of `airmoe.nn.make_transmission`."""


class ImageSettings(Section):
    """Which images are trained on.

    Attributes:
        name: see `airmoe.data.load_images`.
        train_images: how many, a seeded draw; 0 means all.
        flip: mirror every image with probability 1/2.
        shift: move every image by up to so many pixels, drawn anew each time.
    """

    name: str = "cifar10"
    train_images: Annotated[int, Field(ge=0, le=10**7)] = 0
    flip: bool = True
    shift: Annotated[int, Field(ge=0, le=16)] = 0


class GatedModelSettings(Section):
    """The networks; each backbone is split into extractor and expert as `airmoe.nn.build_model` says.

    Attributes:
        backbone: "lenet5", "resnet18", "vit", or "hf:NAME_OR_PATH", which stays as it is.
        norm: "" is the backbone's own.
        width: 0 is the backbone's own.
        expert_hidden: width of the hidden layer of experts on pooled payloads; 0 makes each expert the rest
            of the backbone.
        experts: K.
        k: experts per item.
        compared: further experts that every image is sent to while training. Beside another answer to the
            same image the gate sees what a choice was worth.
        gate: "mlp", "concat" or "bias".
    """

    backbone: str = "lenet5"
    norm: Literal["", "batch", "group", "none"] = ""
    width: Annotated[int, Field(ge=0, le=4096)] = 0
    expert_hidden: Annotated[int, Field(ge=0, le=1 << 16)] = 0
    experts: Annotated[int, Field(ge=1, le=1000)] = 4
    k: Annotated[int, Field(ge=1, le=1000)] = 1
    compared: Annotated[int, Field(ge=0, le=1000)] = 1
    gate: Literal["mlp", "concat", "bias"] = "bias"

    @field_validator("k")
    @classmethod
    def _enough_experts(cls, k: int, info: ValidationInfo) -> int:
        experts = info.data.get("experts", k)
        if k > experts:
            raise ValueError(f"at most {experts}, the number of experts")
        return k

    @property
    def training_k(self) -> int:
        """Experts per item while training."""
        return min(self.k + self.compared, self.experts)


class StageSettings(Section):
    """One stage: AdamW, its rate falling to 0 along a cosine.

    Attributes:
        gate_rate: the gate's learning rate, as a multiple of the others'.
        balance: weight of the terms against collapse; see `airmoe.channel_aware.routing_loss`.
    """

    epochs: Positive = 6
    batch_size: Positive = 128
    learning_rate: LearningRate = 1e-3
    gate_rate: Weight = 5.0
    weight_decay: Weight = 1e-4
    balance: Weight = 0.3


class ChannelStageSettings(StageSettings):
    """Stage 2, over simulated links.

    Attributes:
        extractor_rate: the feature extractor's learning rate, as a share of the others'.
        snr: what SNR each image meets on the link to each expert, a form of `airmoe.links.make_process`.
        no_good_link: share of the images whose links are all as bad as the worst of those drawn. A gate that
            sees the links avoids bad ones, and experts that never met a bad link fail when there is no other.
            A blind gate avoids none: without these images its experts meet the law as it is.
        transmission: a form of `airmoe.nn.make_transmission`.
        gate_sees_snr: False trains a gate that is blind to the noise ("naive + noise").
    """

    epochs: Annotated[int, Field(ge=0, le=10**6)] = 6
    extractor_rate: Share = 0.1
    snr: SnrLaw = "uniform:-5:20"
    no_good_link: Share = 0.25
    transmission: TransmissionForm = "analog"
    gate_sees_snr: bool = True


class ServedLinks(RadioSettings):
    """The radio that the exported model is served over: a server, and an expert on each of K nodes.

    A mesh has no digital links: "ideal" ones carry bits without error.
    """

    transmission: MeshTransmission = "analog"


class TwoStageConfig(Section):
    """A whole run of two-stage training (after arXiv 2504.00819; the numbers are ours)."""

    method: Literal["channel-aware"] = "channel-aware"
    seed: Seed = 0
    mesh: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")] = "lab"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    data: ImageSettings = ImageSettings()
    model: GatedModelSettings = GatedModelSettings()
    clean: StageSettings = StageSettings()
    channel: ChannelStageSettings = ChannelStageSettings()
    links: ServedLinks = ServedLinks()
