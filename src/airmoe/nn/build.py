"""Networks by name."""

from typing import get_args

from airmoe.errors import InvalidInputError
from airmoe.nn.backbones import LeNet5Extractor, MlpExpert, Norm
from airmoe.nn.gates import LinearGate
from airmoe.nn.moe import MixtureOfExperts

BACKBONES = {"lenet5": LeNet5Extractor}


def build_extractor(backbone: str, channels: int, norm: Norm = "group") -> LeNet5Extractor:
    """Return the feature extractor of a backbone.

    Args:
        backbone: "lenet5".
        channels: image channels, 1 or 3.
        norm: "group" or "none".

    Raises:
        InvalidInputError: unknown backbone or norm, or a number of channels that is neither 1 nor 3.
    """
    if backbone not in BACKBONES:
        raise InvalidInputError("backbone", backbone, f"one of {', '.join(BACKBONES)}")
    if norm not in get_args(Norm):
        raise InvalidInputError("norm", norm, f"one of {', '.join(get_args(Norm))}")
    if channels not in (1, 3):
        raise InvalidInputError("channels", channels, "1 or 3")
    return BACKBONES[backbone](channels, norm)


def build_model(
    backbone: str,
    *,
    classes: int,
    experts: int,
    channels: int = 3,
    norm: Norm = "group",
    expert_hidden: int = 256,
    training_k: int = 1,
) -> MixtureOfExperts:
    """Return a mixture of experts: the backbone's feature extractor, a linear gate and MLP experts.

    Args:
        backbone: "lenet5".
        classes: number of classes, the width of the output.
        experts: number of experts.
        channels: image channels, 1 or 3; images are (T, channels, 32, 32) float32 in [0, 1].
        norm: "group" or "none".
        expert_hidden: width of each expert's hidden layer.
        training_k: experts per item while training.

    Raises:
        InvalidInputError: unknown backbone or norm, or a number that is out of range.
    """
    for name, value, least in (
        ("classes", classes, 2),
        ("experts", experts, 1),
        ("expert_hidden", expert_hidden, 1),
    ):
        if value < least:
            raise InvalidInputError(name, value, f"at least {least}")
    extractor = build_extractor(backbone, channels, norm)
    return MixtureOfExperts(
        extractor,
        LinearGate(extractor.features, experts),
        [MlpExpert(extractor.features, classes, expert_hidden) for _ in range(experts)],
        training_k=training_k,
    )
