"""Networks by name."""

from collections.abc import Callable
from inspect import signature

from torch import nn

from airmoe.checks import integer_at_least
from airmoe.errors import InvalidInputError
from airmoe.nn.backbones.extractor import USUAL_SIZE, Extractor, ImageSize
from airmoe.nn.backbones.lenet5 import LeNet5Extractor
from airmoe.nn.backbones.own import OwnExtractor
from airmoe.nn.backbones.patches import PatchExtractor
from airmoe.nn.backbones.pretrained import PretrainedExtractor
from airmoe.nn.backbones.resnet18 import ResNet18Extractor
from airmoe.nn.backbones.vit import VitExtractor
from airmoe.nn.channel_gates import BiasGate, ConcatGate, MlpGate, NoisyTopK
from airmoe.nn.experts import MlpExpert
from airmoe.nn.gates import LinearGate
from airmoe.nn.moe import MixtureOfExperts
from airmoe.nn.moe_layer import MoeLayer
from airmoe.parts import Parts

PRETRAINED = "hf:"

BACKBONES = Parts[Callable[..., nn.Module]](
    "backbone",
    {
        "lenet5": LeNet5Extractor,
        "resnet18": ResNet18Extractor,
        "vit": VitExtractor,
        "patches": PatchExtractor,
    },
)
"""Each backbone's feature extractor; its constructor names the options that it takes."""


def _bias_gate(features: int, experts: int, hidden: int = 128) -> nn.Module:
    return BiasGate(MlpGate(features, experts, hidden))


GATES = Parts[Callable[..., nn.Module]](
    "gate",
    {
        "linear": LinearGate,
        "mlp": MlpGate,
        "concat": ConcatGate,
        "bias": _bias_gate,
    },
)
"""Each gate of (features, experts); one whose constructor names ``hidden`` offers a choice of it."""


def options_of(backbone: str) -> tuple[str, ...]:
    """Return what a backbone's constructor takes; nothing for a backbone that is not in `BACKBONES`."""
    make = BACKBONES.get(backbone)
    return () if make is None else tuple(signature(make).parameters)


def known_backbone(backbone: str) -> str:
    """Return the name of a backbone.

    Raises:
        InvalidInputError: there is none of this name.
    """
    if backbone not in BACKBONES and (not backbone.startswith(PRETRAINED) or backbone == PRETRAINED):
        listed = f"one of {', '.join((*BACKBONES, f'{PRETRAINED}NAME_OR_PATH'))}"
        raise InvalidInputError("backbone", backbone, BACKBONES.expected(backbone, BACKBONES, listed))
    return backbone


def build_extractor(
    backbone: str,
    channels: int,
    norm: str | None = None,
    width: int | None = None,
    size: ImageSize = USUAL_SIZE,
) -> Extractor:
    """Return the feature extractor of a backbone.

    Args:
        backbone: "lenet5", "resnet18", "vit", "patches" (see `airmoe.nn.PatchExtractor`), "hf:NAME_OR_PATH"
            for a pretrained model of Hugging Face, or one that a plugin brings: an `Extractor`, or any module
            from images (T, C, H, W) to a vector for each, or to what its attribute ``pooling`` says.
        norm: "group" or "none" for lenet5 (default "group"), "batch" or "group" for resnet18 (default
            "batch"); None for the others.
        width: channels of the first layer of resnet18 (default 64), or of a token of vit (default 192), or
            filters of patches (default 400); None for the others.
        size: height and width of the images, pixels; a pretrained model resizes them itself.

    Raises:
        InvalidInputError: the backbone is unknown, an option or its value is not one that it takes,
            ``channels`` is neither 1 nor 3, or images of this size are not for this backbone.
        MissingExtraError: the model is pretrained, and transformers is not installed.

    Examples:
        >>> import torch
        >>> from airmoe.nn import build_extractor
        >>> extractor = build_extractor("lenet5", channels=1).eval()
        >>> tuple(extractor(torch.zeros(2, 1, 32, 32)).shape), extractor.features
        ((2, 400), 400)
    """
    known_backbone(backbone)
    if channels not in (1, 3):
        raise InvalidInputError("channels", channels, "1 or 3")
    make, options = BACKBONES.get(backbone), options_of(backbone)
    given: dict[str, object] = {
        name: value for name, value in (("norm", norm), ("width", width)) if value is not None
    }
    for name, value in given.items():
        if name not in options:
            raise InvalidInputError(name, value, f"it left out: {backbone} offers no choice of it")
    if make is None:
        return PretrainedExtractor(backbone.removeprefix(PRETRAINED), channels)
    if "size" in options:
        given["size"] = size
    made = make(channels, **given)
    return made if isinstance(made, Extractor) else OwnExtractor(backbone, made, channels, size)


def refuse_impossible_backbone(
    backbone: str, size: int, norm: str | None = None, width: int | None = None
) -> None:
    """Refuse, before any image is read, a backbone that cannot be built for square images of this size.

    Of a plugin's backbone nothing is said: what it takes shows only with the channels of the images.

    Raises:
        InvalidInputError: as `build_extractor`, in the names of a run's settings.
        MissingExtraError: as `build_extractor`.
    """
    if backbone in BACKBONES.own:
        return
    try:
        build_extractor(backbone, 1, norm, width, (size, size))
    except InvalidInputError as error:
        named: dict[str, tuple[str, object]] = {
            "size of images": ("size", size),
            "source": ("backbone", backbone),
        }
        name, value = named.get(error.name, (f"model.{error.name}", error.value))
        raise InvalidInputError(name, value, error.expected) from error


def backbone_digest(backbone: str, channels: int) -> str:
    """Return SHA-256 of what is loaded for a backbone; "" unless it is a pretrained one.

    Raises:
        InvalidInputError: as `build_extractor`.
    """
    if backbone in BACKBONES or not backbone.startswith(PRETRAINED):
        return ""
    return PretrainedExtractor(backbone.removeprefix(PRETRAINED), channels).digest()


def pretrained_digest(extractor: nn.Module) -> str:
    """Return SHA-256 of what was loaded for the pretrained model within an extractor; "" if there is none."""
    return next((part.digest() for part in extractor.modules() if isinstance(part, PretrainedExtractor)), "")


def build_gate(gate: str, features: int, experts: int, hidden: int | None = None) -> nn.Module:
    """Return the gate of this name.

    Args:
        gate: one of `GATES`.
        features: F, width of the pooled payload.
        experts: E.
        hidden: width of its hidden layer; None for the gate's own.

    Raises:
        InvalidInputError: an unknown gate, one that offers no choice of a hidden layer, or one that does not
            say whether it sees the SNR.
    """
    if gate not in GATES:
        raise InvalidInputError("gate", gate, GATES.expected(gate, GATES, f"one of {', '.join(GATES)}"))
    make, given = GATES[gate], dict[str, int]()
    if hidden is not None:
        integer_at_least("gate_hidden", hidden, 1)
        if "hidden" not in signature(make).parameters:
            raise InvalidInputError("gate_hidden", hidden, f"it left out: {gate} offers no choice of it")
        given["hidden"] = hidden
    made = make(features, experts, **given)
    if not isinstance(made, nn.Module) or not isinstance(getattr(made, "sees_snr", None), bool):
        expected = "a torch.nn.Module that says by a bool `sees_snr` whether it looks at the links"
        raise InvalidInputError(f"gate {gate}", type(made).__name__, expected)
    return made


def build_model(
    backbone: str,
    *,
    classes: int,
    experts: int,
    channels: int = 3,
    norm: str | None = None,
    width: int | None = None,
    size: ImageSize = USUAL_SIZE,
    gate: str = "linear",
    noisy: bool = False,
    gate_hidden: int | None = None,
    expert_hidden: int | None = 256,
    expert_norm: bool = False,
    training_k: int = 1,
    explored: int = 0,
    source: int = 0,
) -> MixtureOfExperts:
    """Return a mixture of experts: the backbone's feature extractor, a gate and experts.

    Args:
        backbone: as `build_extractor`.
        classes: number of classes, the width of the output.
        experts: number of experts.
        channels: image channels, 1 or 3; images are (T, channels, H, W) float32 in [0, 1].
        norm: as `build_extractor`.
        width: as `build_extractor`.
        size: as `build_extractor`.
        gate: "linear" and "mlp" are blind to the channel; "concat" and "bias" see the SNR of every link; or
            one that a plugin brings.
        noisy: whether the gate has noise while it trains (`airmoe.nn.NoisyTopK`).
        gate_hidden: width of the gate's hidden layer (default 128); None for a gate without one.
        expert_hidden: width of the one hidden layer of each expert, which sees the pooled payload. With None
            each expert is the rest of the backbone and sees the payload as it is.
        expert_norm: whether that hidden layer sees normalised payloads; see `airmoe.nn.MlpExpert`.
        training_k: experts per item while training, those that the gate likes best.
        explored: further ones, drawn at random.
        source: the node where items rest unless a call says otherwise; expert e is on node e.

    Raises:
        InvalidInputError: as `build_extractor`; an unknown gate; a number that is out of range; or a
            pretrained backbone with ``expert_hidden`` None.
        MissingExtraError: as `build_extractor`.

    Examples:
        >>> import torch
        >>> from airmoe.nn import build_model
        >>> model = build_model("lenet5", classes=10, experts=4, channels=1).eval()
        >>> output = model(torch.zeros(2, 1, 32, 32))
        >>> tuple(output.scores_TE.shape)
        (2, 4)
    """
    integer_at_least("classes", classes, 2)
    integer_at_least("experts", experts, 1)
    if expert_hidden is not None:
        integer_at_least("expert_hidden", expert_hidden, 1)
    extractor = build_extractor(backbone, channels, norm, width, size)
    gating = build_gate(gate, extractor.features, experts, gate_hidden)
    if noisy:
        gating = NoisyTopK(gating, extractor.features, experts, training_k)
    made = [
        extractor.tail(classes)
        if expert_hidden is None
        else MlpExpert(extractor.features, classes, expert_hidden, extractor.pooling, normed=expert_norm)
        for _ in range(experts)
    ]
    layer = MoeLayer(
        gating, made, pooling=extractor.pooling, training_k=training_k, explored=explored, source=source
    )
    return MixtureOfExperts(extractor, layer)
