"""Settings of the study's curves: what is trained, how, and over which links it is asked."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from airmoe.channel_aware.config import (
    ChannelAwareConfig,
    SnrLaw,
    TransmissionForm,
    published,
)
from airmoe.errors import InvalidInputError, one_of
from airmoe.links import SnrProcess, make_process
from airmoe.nn.build import BACKBONES, GATES
from airmoe.runs.settings import expected_by, named_in, readable_by
from airmoe.scheduling import BestLink, Policy, RandomK, TopK, make_policy
from airmoe.studies.curves.settings import CurveSettings, Decibels, Experts, Seeds, Share, Values, none_is
from airmoe.studies.gating.methods import METHODS, Method


def _known(name: str) -> str:
    if name not in METHODS:
        raise ValueError(one_of(name, METHODS))
    return name


def _method(info: ValidationInfo) -> Method | None:
    """Return the method of the curve that is being read; None where it is refused itself."""
    return METHODS.get(info.data.get("method", ""))


def _policy(text: str) -> Policy | None:
    """Return the policy that takes the place of a method's own; None for an empty text."""
    return make_policy(text) if text else None


Backbone = Annotated[str, named_in(BACKBONES, "lenet5", "resnet18", "vit")]
Epochs = Annotated[int, Field(ge=1, le=1000)]
Size = Annotated[int | None, Field(ge=1, le=10**6), *none_is("all")]
Shift = Annotated[int, Field(ge=0, le=16)]
Width = Annotated[int | None, Field(ge=1, le=4096), *none_is("own")]


class GatingSettings(CurveSettings):
    """One method's accuracy against one property of the links.

    Attributes:
        method: one of `METHODS`.
        policy: chooses experts in the test in place of the method, as `airmoe.scheduling.make_policy` reads
            it; empty for the method's own.
        data: the images, as `airmoe.data.load_images` names them; CIFAR is read from ``--data-dir``.
        train_images: size of a seeded draw of training images; None, "all" in a file, for all of them.
        test_images: how many held-out images, the first ones; None, "all" in a file, for all of them.
        flip: whether to mirror training images at random.
        shift: pixels by which training images move at most.
        backbone: "lenet5", "resnet18", "vit", or one that a plugin brings.
        width: None, "own" in a file, is the backbone's own.
        expert_hidden: width of the hidden layer of experts on pooled features; None, "own" in a file, makes
            each expert the rest of the backbone.
        experts: K.
        k: experts per image; where one network is copied, links over which it is asked.
        gate: "concat", "bias", or one that a plugin brings.
        gate_hidden: width of the gate's hidden layer; None, "own" in a file, is the gate's own.
        networks: experts of stage 1, for mixtures that are trained with overlap; see
            `airmoe.channel_aware.config.CleanStageSettings`.
        common: share of an expert's loss that does not depend on the gate, for the same methods.
        clean_epochs: epochs of stage 1.
        channel_epochs: epochs of stage 2; 0 with overlap alone, where experts stay the copies that they begin
            as.
        batch_size: batch size of both stages.
        learning_rate: learning rate of both stages.
        warmup: share of the steps of each stage over which that rate rises.
        gate_rate: the gate's learning rate, as a multiple of it.
        train_snr: the SNR process of stage 2.
        no_good_link: share of the images of stage 2 whose links are all as bad as the worst, for the methods
            that are trained with such images.
        train_transmission: transmission in stage 2.
        transmission: transmission in the test.
        mean_snr_db: a value for `law`, dB.
        spread_db: a value for `law`, dB.
        bad_db: a value for `law`, dB.
        correlation: a value for `law`.
        delay_slots: how many images old the SNR is that the gate sees.
        error_db: standard deviation of the error of that SNR, dB.
        law: the SNR process of the test, as `airmoe.links.make_process` reads it; a setting's name in braces
            stands for its value.
    """

    SWEPT_IS_X: ClassVar[bool] = True

    seeds: Seeds = 3
    swept: Literal[
        "mean_snr_db", "spread_db", "bad_db", "delay_slots", "error_db", "networks", "expert_hidden"
    ] = "mean_snr_db"
    values: Values = (-5, 0, 5, 10, 15, 20)
    method: Annotated[str, AfterValidator(_known)] = "channel-aware"
    policy: Annotated[str, readable_by(_policy)] = ""

    data: str = "cifar10"
    train_images: Size = None
    test_images: Size = None
    flip: bool = True
    shift: Shift = 0
    backbone: Backbone = "lenet5"
    width: Width = None
    expert_hidden: Width = None
    experts: Experts = 4
    k: Experts = 1
    gate: Annotated[str, named_in(GATES, "concat", "bias")] = "bias"
    gate_hidden: Width = None
    networks: Experts = 1
    common: Share = 0.8
    clean_epochs: Epochs = 6
    channel_epochs: Annotated[int, Field(ge=0, le=1000)] = 6
    batch_size: Annotated[int, Field(ge=1, le=65536)] = 128
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 1e-3
    warmup: Share = 0.0
    gate_rate: Annotated[float, Field(gt=0, le=1e3)] = 5.0
    train_snr: SnrLaw = "uniform:-5:20"
    no_good_link: Share = 0.25
    train_transmission: TransmissionForm = "analog"

    transmission: TransmissionForm = "analog"
    mean_snr_db: Decibels = 5.0
    spread_db: Annotated[float, Field(ge=0, le=100)] = 10.0
    bad_db: Decibels = -10.0
    correlation: Share = 0.9
    delay_slots: Annotated[int, Field(ge=0, le=10_000)] = 0
    error_db: Annotated[float, Field(ge=0, le=100)] = 0.0

    law: str = "spread:{mean_snr_db:g}:{spread_db:g}"

    @field_validator("k")
    @classmethod
    def _enough_experts(cls, k: int, info: ValidationInfo) -> int:
        experts = info.data.get("experts", k)
        if k > experts:
            raise ValueError(f"at most {experts}, the number of experts")
        if k > 1 and (method := _method(info)) and method.chooses == "oracle":
            raise ValueError("1: an oracle chooses one expert")
        return k

    @field_validator("policy")
    @classmethod
    def _for_a_mixture(cls, policy: str, info: ValidationInfo) -> str:
        if policy and (method := _method(info)) and method.one_network:
            raise ValueError("nothing: copies of one network are asked over their k best links")
        return policy

    @field_validator("networks")
    @classmethod
    def _no_more_than_experts(cls, networks: int, info: ValidationInfo) -> int:
        experts = info.data.get("experts", networks)
        if networks > experts:
            raise ValueError(f"at most {experts}, the number of experts")
        return networks

    @field_validator("channel_epochs")
    @classmethod
    def _some_stage_trains_the_gate(cls, epochs: int, info: ValidationInfo) -> int:
        if epochs or not (method := _method(info)):
            return epochs
        if method.training == "published":
            raise ValueError("at least 1: the published form learns what a link is worth in stage 2")
        if not method.one_network and info.data.get("networks", 1) == 1 < info.data.get("experts", 1):
            raise ValueError("at least 1 where networks is 1: with one network stage 1 has no gate to train")
        return epochs

    @field_validator("train_snr")
    @classmethod
    def _can_be_trained_over(cls, law: str, info: ValidationInfo) -> str:
        method = _method(info)
        links = 1 if method and method.one_network else info.data.get("experts", 1)
        try:
            make_process(law).draw(0, links, np.random.default_rng(0))
        except InvalidInputError as error:
            raise ValueError(expected_by(error, law)) from None
        return law

    @field_validator("law")
    @classmethod
    def _can_be_drawn(cls, law: str, info: ValidationInfo) -> str:
        try:
            _process(law, info.data).draw(0, info.data.get("experts", 1), np.random.default_rng(0))
        except InvalidInputError as error:
            raise ValueError(expected_by(error, law)) from None
        except (KeyError, IndexError, AttributeError, ValueError) as error:
            raise ValueError(f"names of settings in braces, as in {{mean_snr_db:g}} ({error})") from None
        return law

    def process(self) -> SnrProcess:
        """Return the SNR process of the test."""
        return _process(self.law, self.model_dump())

    @property
    def sweeps_training(self) -> bool:
        """Whether every point of the curve has a model of its own; then all are asked over the same links."""
        return self.swept in ("networks", "expert_hidden")

    @property
    def described(self) -> Method:
        """The method, as the table of methods describes it."""
        return METHODS[self.method]

    def policy_of(self, seed: int) -> Policy:
        """Return the policy that chooses experts in the test."""
        if self.policy:
            return make_policy(self.policy, seed)
        method = self.described
        if method.one_network:
            return TopK(1)
        match method.chooses:
            case "best snr":
                return BestLink(self.k)
            case "chance":
                return RandomK(self.k, seed)
        return TopK(self.k)

    def training(self, seed: int) -> ChannelAwareConfig:
        """Return how the model of this curve is trained; curves with the same training share a model."""
        method = self.described
        of_both = self.model_dump(include={"batch_size", "learning_rate", "warmup", "gate_rate"})
        values = {
            "data": {
                "name": self.data,
                "train_images": self.train_images,
                "flip": self.flip,
                "shift": self.shift,
            },
            "model": {
                "backbone": self.backbone,
                "width": self.width,
                "expert_hidden": self.expert_hidden,
                "experts": 1 if method.one_network else self.experts,
                "k": 1 if method.one_network else self.k,
                "gate": self.gate,
                "gate_hidden": self.gate_hidden,
            },
            "clean": {"epochs": self.clean_epochs, **of_both},
            "channel": {
                "epochs": self.channel_epochs if method.stage_2 else 0,
                "snr": self.train_snr,
                "transmission": self.train_transmission,
                "no_good_link": self.no_good_link if method.no_good_link else 0.0,
                "gate_sees_snr": method.sees_links,
                **of_both,
            },
        }
        base = published() if method.training == "published" else ChannelAwareConfig()
        parts = base.model_dump()
        for section, changes in values.items():
            parts[section].update(changes)
        if method.training == "overlap" and not method.one_network:
            parts["clean"].update(networks=self.networks, common=self.common)
            parts["channel"].update(common=self.common)
        return ChannelAwareConfig.model_validate({**parts, "seed": seed})


def _process(law: str, settings: Mapping[str, Any]) -> SnrProcess:
    return make_process(law.format(**settings))
