"""How many rounds of one averaged network cost its clients as much as all stages of a mixture.

Operations are counted on the real modules; see `airmoe.networked.device_work`. They are of an image that a
client trains on, so that they hold for every division of the images.

Shape suffixes: T items, C channels, H height, W width.
"""

import math
from collections.abc import Sequence

import torch
from torch.nn import functional

from airmoe.networked.answers import SNR_LEVELS_DB
from airmoe.networked.config import NetworkedConfig
from airmoe.networked.device_work import answer_flops, client_steps, counted_flops, device_model
from airmoe.nn import Extractor, MlpExpert


def mixture_flops(config: NetworkedConfig, image_shape: Sequence[int], classes: int) -> dict[str, float]:
    """Return the operations of each stage for an image that a client trains on.

    Stage 2 begins with the features of the image, and stage 3 with the answers of all experts to it, as it
    ends up with when it lasts long enough. Where a stage adds up sums, the Gram matrix counts. Fitting
    filters of patches counts nothing, since one averaged network has no such stage.

    Args:
        config: the run.
        image_shape: (channels, height, width).
        classes: how many.
    """
    model = device_model(config, image_shape, classes, holds=1)
    forward = answer_flops(model, image_shape)
    steps = client_steps(model, config, image_shape, classes)
    step = {stage: counted_flops(work) for stage, work in steps.items()}
    extractor, features, settings = model.extractor, config.features, config.gate
    assert isinstance(extractor, Extractor)
    of_features = features.local_epochs * step.get("features", 0) / features.batch_size
    if features.method == "fedsc":
        of_features += features.spectral.augmentation_passes * forward["extractor"]
    of_experts = config.experts.epochs * step.get("experts", 0) / config.experts.batch_size
    of_gate = settings.rounds * settings.local_epochs * step.get("gate", 0) / settings.batch_size
    bordered, levels = extractor.features + 1, len(SNR_LEVELS_DB) if settings.channel_aware else 1
    answers = 0 if settings.method == "posterior" else config.data.clients * levels * forward["expert"]
    gate_sums = 2 * bordered * (bordered + config.data.clients) if settings.method == "closed-form" else 0
    class_sums = 2 * extractor.features**2 if config.sums_by_class else 0
    return {
        "features": features.rounds * of_features,
        "experts": forward["extractor"] + class_sums + of_experts,
        "gate": answers + gate_sums + of_gate,
    }


def equal_rounds(config: NetworkedConfig, image_shape: Sequence[int], classes: int) -> int:
    """Return the rounds of stage 1, and as many more as stages 2 and 3 would pay for.

    One round is that of a network of the extractor with one expert, or of that expert alone where the
    extractor is frozen and stage 1 has no rounds. The number is rounded up.

    Examples:
        Experts and gate cost as little as four rounds more:

        >>> from airmoe.networked.config import NetworkedConfig
        >>> from airmoe.networked.equal_budget import equal_rounds
        >>> equal_rounds(NetworkedConfig(), image_shape=(3, 32, 32), classes=10)
        84
    """
    model = device_model(config, image_shape, classes, holds=1)
    extractor = model.extractor
    expert, images_TCHW = model.layer.experts[0], torch.zeros(config.features.batch_size, *image_shape)
    assert isinstance(extractor, Extractor)
    if not isinstance(expert, MlpExpert):  # of sums: one averaged network has the expert of the settings
        expert = MlpExpert(extractor.features, classes, config.model.expert_hidden)
    features_TF = torch.zeros(len(images_TCHW), extractor.features)

    def step() -> None:
        logits_TC = expert.logits(features_TF if extractor.frozen else extractor(images_TCHW))
        labels_T = torch.zeros(len(images_TCHW), dtype=torch.int64)
        functional.cross_entropy(logits_TC, labels_T).backward()

    of_round = counted_flops(step) / config.features.batch_size * config.features.local_epochs
    flops = mixture_flops(config, image_shape, classes)
    more = math.ceil((flops["experts"] + flops["gate"]) / of_round)
    return more if extractor.frozen else config.features.rounds + more
