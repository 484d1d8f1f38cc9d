"""The models of both stages: what stage 1 trains, and what stage 2 begins with."""

from airmoe.channel_aware.config import ChannelAwareConfig, ChannelStageSettings
from airmoe.data import ImageSet
from airmoe.links import make_process
from airmoe.nn import MixtureOfExperts, build_model
from airmoe.randomness import stream
from airmoe.seeding import torch_seeded


def initial_model(
    config: ChannelAwareConfig, images: ImageSet, *, one_network: bool = False
) -> MixtureOfExperts:
    """Return the mixture of a configuration with its seed's initial weights, or the same with one expert.

    Raises:
        InvalidInputError: a network that cannot be built, or an SNR law for another number of experts.
    """
    settings = config.model
    if one_network:
        settings = settings.model_copy(update={"experts": 1, "k": 1})
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
            expert_hidden=settings.expert_hidden,
            training_k=settings.training_k,
            explored=settings.training_explored,
            source=settings.experts,
        )


def first_stage(config: ChannelAwareConfig) -> ChannelAwareConfig:
    """Return the run that is nothing but stage 1 of another one; runs that share it have the same."""
    channel, law = config.channel, dict[str, object]()
    if config.clean.over_links:
        law = {name: getattr(channel, name) for name in ("snr", "transmission")}
        if not config.clean.one_network:
            law["no_good_link"] = channel.no_good_link
    nothing_more = ChannelStageSettings.model_validate({"epochs": 0, **law})
    return config.model_copy(update={"channel": nothing_more})


def first_model(config: ChannelAwareConfig, images: ImageSet) -> MixtureOfExperts:
    """Return the model that stage 1 trains.

    Raises:
        InvalidInputError: as `initial_model`.
    """
    return initial_model(config, images, one_network=config.clean.one_network)


def second_model(config: ChannelAwareConfig, images: ImageSet, first: MixtureOfExperts) -> MixtureOfExperts:
    """Return the mixture that stage 2 begins with: the model of stage 1, or experts that are copies of it."""
    if not config.clean.one_network:
        return first
    model = initial_model(config, images)
    model.extractor.load_state_dict(first.extractor.state_dict())
    for expert in model.layer.experts:
        expert.load_state_dict(first.layer.experts[0].state_dict())
    return model
