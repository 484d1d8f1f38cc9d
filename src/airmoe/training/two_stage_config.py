"""The settings of two-stage training: a server's gate and experts, without and then with a channel."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from airmoe.runfolder import Seed
from airmoe.training.config import LearningRate, Positive, Section, Weight

Share = Annotated[float, Field(ge=0, le=1)]


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
        backbone: "lenet5", "resnet18" or "vit".
        norm: "" is the backbone's own.
        width: 0 is the backbone's own.
        experts: K.
        k: experts per item.
        compared: further experts that every image is sent to while training. Beside another answer to the
            same image the gate sees what a choice was worth.
        gate: "mlp", "concat" or "bias".
    """

    backbone: str = "lenet5"
    norm: Literal["", "batch", "group", "none"] = ""
    width: Annotated[int, Field(ge=0, le=4096)] = 0
    experts: Annotated[int, Field(ge=1, le=1000)] = 4
    k: Annotated[int, Field(ge=1, le=1000)] = 1
    compared: Annotated[int, Field(ge=0, le=1000)] = 1
    gate: Literal["mlp", "concat", "bias"] = "bias"

    @model_validator(mode="after")
    def _enough_experts(self) -> "GatedModelSettings":
        if self.k > self.experts:
            raise ValueError(f"k is {self.k}; expected at most {self.experts}, the number of experts")
        return self

    @property
    def training_k(self) -> int:
        """Experts per item while training."""
        return min(self.k + self.compared, self.experts)


class StageSettings(Section):
    """One stage: AdamW, its rate falling to 0 along a cosine.

    Attributes:
        gate_rate: the gate's learning rate, as a multiple of the others'.
        balance: weight of the terms against collapse; see `airmoe.training.routing_loss`.
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
        transmission: a form of `airmoe.nn.make_transmission`.
        gate_sees_snr: False trains with the same noise a gate that is blind to it ("naive + noise").
    """

    epochs: Annotated[int, Field(ge=0, le=10**6)] = 6
    extractor_rate: Share = 0.1
    snr: str = "uniform:-5:20"
    transmission: str = "analog"
    gate_sees_snr: bool = True


class LinkBudget(Section):
    """The radio that the exported model is served over: a server and an expert on each of K nodes."""

    mean_snr_db: Annotated[float, Field(ge=-300, le=300)] = 10.0
    subcarriers: Annotated[int, Field(ge=1, le=1 << 20)] = 128
    subcarrier_hz: Annotated[float, Field(ge=1, le=1e12)] = 1e6
    power_w: Annotated[float, Field(ge=1e-12, le=1e6)] = 1e-2


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
    links: LinkBudget = LinkBudget()
