"""The settings of channel-aware training: what stage 1 begins with, and how stage 2 trains over links."""

from importlib.resources import files
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from airmoe.data.load import LARGEST_SIZE, USUAL_SIZE
from airmoe.errors import InvalidInputError
from airmoe.links import make_process
from airmoe.manifest import MeshTransmission, RadioSettings, Seed
from airmoe.nn.build import GATES, PRETRAINED, known_backbone
from airmoe.radio import make_transmission
from airmoe.runs.settings import (
    LearningRate,
    Positive,
    Section,
    Weight,
    named_in,
    parse_section,
    readable_by,
)

PRETRAINED_HIDDEN = 256
"""Width of the hidden layer of experts on a pretrained backbone, where nobody says otherwise."""

Share = Annotated[float, Field(ge=0, le=1)]
SnrLaw = Annotated[str, readable_by(make_process)]
"""A form of `airmoe.links.make_process`."""

GateName = Annotated[str, named_in(GATES, "mlp", "concat", "bias")]
"""A gate of `airmoe.nn.build_model`; a linear one would need standardised features."""

TransmissionForm = Annotated[str, readable_by(make_transmission)]
"""A form of `airmoe.radio.make_transmission`."""


class ImageSettings(Section):
    """Which images are trained on.

    Attributes:
        name: see `airmoe.data.load_images`.
        size: height and width of the images, pixels; only a folder offers a choice.
        train_images: how many, a seeded draw; None means all.
        flip: mirror every image with probability 1/2.
        shift: move every image by up to so many pixels, drawn anew each time.
    """

    name: str = "cifar10"
    size: Annotated[int, Field(ge=1, le=LARGEST_SIZE)] = USUAL_SIZE
    train_images: Annotated[int, Field(ge=1, le=10**7)] | None = None
    flip: bool = True
    shift: Annotated[int, Field(ge=0, le=16)] = 0


class MixtureSettings(Section):
    """The networks of the mixture. `airmoe.nn.build_model` splits a backbone into extractor and expert.

    Attributes:
        backbone: "lenet5", "resnet18", "vit", or "hf:NAME_OR_PATH", whose weights stay as they are; or one
            that a plugin brings.
        norm: None is the backbone's default, "none" is no normalisation.
        width: None is the backbone's default.
        expert_hidden: width of the hidden layer of experts on pooled payloads; None makes each expert the
            rest of the backbone. A pretrained one has no rest: with it, None is 256.
        experts: K.
        k: experts per item.
        compared: further experts that every image is sent to while training, those that the gate likes next
            best. A second answer to the same image shows the gate what its choice was worth.
        explored: further ones still, drawn at random. They overlap with the others: each learns a little from
            every kind of image.
        gate: "mlp", "concat", "bias", or one that a plugin brings.
        gate_hidden: width of the gate's hidden layer; None is the gate's own (128).
    """

    backbone: Annotated[str, readable_by(known_backbone)] = "lenet5"
    norm: Literal["batch", "group", "none"] | None = None
    width: Annotated[int, Field(ge=1, le=4096)] | None = None
    expert_hidden: Annotated[int, Field(ge=1, le=1 << 16)] | None = Field(None, validate_default=True)
    experts: Annotated[int, Field(ge=1, le=1000)] = 4
    k: Annotated[int, Field(ge=1, le=1000)] = 1
    compared: Annotated[int, Field(ge=0, le=1000)] = 0
    explored: Annotated[int, Field(ge=0, le=1000)] = 3
    gate: GateName = "bias"
    gate_hidden: Annotated[int, Field(ge=1, le=1 << 16)] | None = None

    @field_validator("backbone")
    @classmethod
    def _learns_by_gradients(cls, backbone: str) -> str:
        if backbone == "patches":
            raise ValueError(
                "a backbone that gradients train; filters of patches are fitted to sums, and only"
                " the networked method has them"
            )
        return backbone

    @field_validator("expert_hidden")
    @classmethod
    def _some_experts(cls, width: int | None, info: ValidationInfo) -> int | None:
        pretrained = info.data.get("backbone", "").startswith(PRETRAINED)
        return PRETRAINED_HIDDEN if pretrained and width is None else width

    @field_validator("k")
    @classmethod
    def _enough_experts(cls, k: int, info: ValidationInfo) -> int:
        experts = info.data.get("experts", k)
        if k > experts:
            raise ValueError(f"at most {experts}, the number of experts")
        return k

    @property
    def training_k(self) -> int:
        """Experts per item while training, those that the gate likes best."""
        return min(self.k + self.compared, self.experts)

    @property
    def training_explored(self) -> int:
        """Further experts per item while training."""
        return min(self.explored, self.experts - self.training_k)


class StageSettings(Section):
    """One stage: AdamW, with a learning rate that falls to 0 along a cosine.

    Attributes:
        warmup: share of the steps over which a factor of the rate rises from 0 to 1, beside the cosine. At a
            high rate without it, no hidden value of a small network may be left that fires.
        gate_rate: the gate's learning rate, as a multiple of the others'.
        balance: weight of the terms against collapse; see `airmoe.channel_aware.routing_loss`.
        objective: what is minimised: "expected", the loss that the gate's choice would have
            (`airmoe.channel_aware.expected_loss`), or "mixture", that of the mixed answers
            (`airmoe.channel_aware.routing_loss`).
        common: of the expected loss, the share of each asked expert that does not depend on the gate.
    """

    epochs: Positive = 6
    batch_size: Positive = 128
    learning_rate: LearningRate = 1e-3
    warmup: Share = 0.0
    gate_rate: Weight = 5.0
    weight_decay: Weight = 1e-4
    balance: Weight = 0.3
    objective: Literal["expected", "mixture"] = "expected"
    common: Share = 0.8


class CleanStageSettings(StageSettings):
    """Stage 1, before links differ.

    Attributes:
        networks: experts of stage 1. Expert e of stage 2 begins as a copy of number e modulo ``networks``:
            with 1 all are copies of one network. Experts that are copies stand in for one another; those of
            different networks know different images. With as many as experts, or more, nothing is copied, as
            published. Where there are several, their gate meets links as in stage 2.
        over_links: send payloads over the links of stage 2 in stage 1, too. False has a perfect channel, as
            published.
    """

    networks: Annotated[int, Field(ge=1, le=1000)] = 1
    over_links: bool = True


class ChannelStageSettings(StageSettings):
    """Stage 2, over simulated links.

    Attributes:
        extractor_rate: the feature extractor's learning rate, as a share of the others'.
        snr: the law of the SNR that each image meets on the link to each expert, a form of
            `airmoe.links.make_process`.
        alike: share of the images whose links are all set to one of those drawn. Without such images a gate
            that sees the links sends its experts hardly anything over bad ones, and they fail where every
            link is bad.
        no_good_link: share of the images whose links are all set to the worst one drawn, and stay so whatever
            ``alike`` says: worse links than the law's.
        transmission: a form of `airmoe.radio.make_transmission`.
        gate_sees_snr: False trains a gate that is blind to the noise ("naive + noise").
    """

    epochs: Annotated[int, Field(ge=0, le=10**6)] = 6
    extractor_rate: Share = 1.0
    snr: SnrLaw = "uniform:-5:20"
    alike: Share = 0.5
    no_good_link: Share = 0.0
    transmission: TransmissionForm = "analog"
    gate_sees_snr: bool = True


class ServedLinks(RadioSettings):
    """The radio that the exported model is served over: a server, and an expert on each of K nodes.

    A mesh has no digital links: "ideal" ones carry bits without error.
    """

    transmission: MeshTransmission = "analog"


class ChannelAwareConfig(Section):
    """A whole run of channel-aware training (after arXiv 2504.00819; the numbers are ours)."""

    method: Literal["channel-aware"] = "channel-aware"
    seed: Seed = 0
    mesh: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")] = "lab"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    data: ImageSettings = ImageSettings()
    model: MixtureSettings = MixtureSettings()
    clean: CleanStageSettings = CleanStageSettings()
    channel: ChannelStageSettings = ChannelStageSettings()
    links: ServedLinks = ServedLinks()

    @model_validator(mode="after")
    def _some_stage_trains_the_gate(self) -> Self:
        clean, channel = self.clean, self.channel
        in_stage_1 = clean.networks > 1 and clean.gate_rate > 0
        in_stage_2 = channel.epochs > 0 and channel.gate_rate > 0
        if in_stage_1 or in_stage_2 or self.model.experts == 1:
            return self
        if channel.epochs:
            expected = "above 0 where clean.networks is 1 or clean.gate_rate is 0: stage 1 trains no gate"
            raise InvalidInputError("channel.gate_rate", channel.gate_rate, expected)
        if clean.networks == 1:
            expected = "at least 1 where clean.networks is 1: with one network stage 1 has no gate to train"
            raise InvalidInputError("channel.epochs", 0, expected)
        expected = "above 0 where channel.epochs is 0: no other stage trains the gate"
        raise InvalidInputError("clean.gate_rate", clean.gate_rate, expected)


def published() -> ChannelAwareConfig:
    """Return the settings of the two stages as published, ``published.toml`` beside this file."""
    text = files("airmoe.channel_aware").joinpath("published.toml").read_text(encoding="utf-8")
    return parse_section(ChannelAwareConfig, text, "published.toml")
