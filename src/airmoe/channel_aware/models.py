"""The models of both stages: what stage 1 trains, and what stage 2 begins with."""

from typing import Any

from airmoe.channel_aware.config import ChannelAwareConfig, ChannelStageSettings
from airmoe.data import ImageSet
from airmoe.errors import InvalidInputError
from airmoe.links import make_process
from airmoe.nn import MixtureOfExperts, build_model
from airmoe.randomness import stream
from airmoe.seeding import torch_seeded


def initial_model(
    config: ChannelAwareConfig, images: ImageSet, experts: int | None = None
) -> MixtureOfExperts:
    """Return the mixture of a configuration with its seed's initial weights, or one of fewer experts.

    Raises:
        InvalidInputError: a network that cannot be built, or an SNR law for another number of experts.
    """
    settings = config.model
    if experts is not None:
        fewer = min(experts, settings.experts)
        settings = settings.model_copy(update={"experts": fewer, "k": min(settings.k, fewer)})
    make_process(config.channel.snr).draw(0, config.model.experts, stream(config.seed, "no draw"))
    with torch_seeded(config.seed, "two-stage weights"):
        return build_model(
            settings.backbone,
            classes=len(images.class_names),
            experts=settings.experts,
            channels=images.train_images.shape[1],
            norm=settings.norm,
            width=settings.width,
            size=images.train_images.shape[2:],
            gate=settings.gate,
            noisy=True,
            gate_hidden=settings.gate_hidden,
            expert_hidden=settings.expert_hidden,
            expert_norm=True,
            training_k=settings.training_k,
            explored=settings.training_explored,
            source=settings.experts,
        )


def networks_of(config: ChannelAwareConfig) -> int:
    """Return how many experts stage 1 trains."""
    return min(config.clean.networks, config.model.experts)


def first_stage(config: ChannelAwareConfig) -> ChannelAwareConfig:
    """Return the run that is nothing but stage 1 of another one; runs that share it have the same."""
    channel, law = config.channel, dict[str, object]()
    if config.clean.over_links:
        of_choice = ("alike", "no_good_link", "gate_sees_snr") if networks_of(config) > 1 else ()
        law = {name: getattr(channel, name) for name in ("snr", "transmission", *of_choice)}
    nothing_more = ChannelStageSettings.model_validate({"epochs": 0, **law})
    return config.model_copy(update={"channel": nothing_more})


def first_model(config: ChannelAwareConfig, images: ImageSet) -> MixtureOfExperts:
    """Return the model that stage 1 trains.

    Raises:
        InvalidInputError: as `initial_model`; or its gate is bound to its experts, and cannot be copied.
    """
    networks, experts = networks_of(config), config.model.experts
    model = initial_model(config, images, networks)
    if 1 < networks < experts:
        gate: Any = model.layer.gate.gate
        try:
            gate.of_experts([0])
        except AttributeError:
            expected = f"1, or {experts} or more, since a gate {config.model.gate} is bound to its experts"
            raise InvalidInputError("clean.networks", networks, expected) from None
    return model


def second_model(config: ChannelAwareConfig, images: ImageSet, first: MixtureOfExperts) -> MixtureOfExperts:
    """Return the mixture that stage 2 begins with: its experts are copies of those of stage 1.

    Expert e is a copy of network e modulo their number, and so is its part of the gate. After a single
    network, which had no gate to learn, the gate begins anew.
    """
    networks, experts = networks_of(config), config.model.experts
    if networks == experts:
        return first
    model = initial_model(config, images)
    model.extractor.load_state_dict(first.extractor.state_dict())
    for number, expert in enumerate(model.layer.experts):
        expert.load_state_dict(first.layer.experts[number % networks].state_dict())
    if networks > 1:
        copies = [number % networks for number in range(experts)]
        gate: Any = first.layer.gate.gate
        model.layer.gate.gate = gate.of_experts(copies)
    return model
