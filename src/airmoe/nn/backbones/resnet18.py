"""ResNet-18 (He et al. 2016): stem and layers 1 to 3 | layer 4, pool and classifier.

From 64 pixels on, the stem is the original: a 7 x 7 convolution and max-pooling, each with stride 2. For
smaller images it is one 3 x 3 convolution with stride 1, as is usual for them.

Shape suffixes: T items, P (item, expert) pairs, F features, C channels or classes, H height, W width.
"""

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from airmoe.checks import integer_at_least
from airmoe.nn.backbones.extractor import (
    USUAL_SIZE,
    Extractor,
    ImageSize,
    centred,
    checked_norm,
    checked_size,
)
from airmoe.nn.experts import ClassifierExpert
from airmoe.nn.pooling import pool

ResNet18Norm = Literal["batch", "group"]

GROUP_CHANNELS = 16
"""How many channels are normalised together, where the width allows it (Wu and He 2018)."""


LARGE_SIDE = 64
"""Pixels of the shorter side from which the stem is the original."""


class ResNet18Extractor(Extractor):
    """The first three of the four layers: (T, C, H, W) to a map (T, 4 width, H / 4, W / 4).

    From 64 pixels on, to a map (T, 4 width, H / 16, W / 16). All divisions round up.

    Args:
        channels: 1 for grey images, 3 for colour.
        width: channels of the first layer: 64 in the original, 16 for a CPU.
        norm: "batch" is the original; "group" does not look at other items, as federated averaging and
            experts that get few items at a time need.
        size: height and width of the images.

    Raises:
        InvalidInputError: another ``norm``, or a ``width`` or a side below 1.
    """

    def __init__(
        self,
        channels: int,
        width: int = 64,
        norm: ResNet18Norm = "batch",
        size: ImageSize = USUAL_SIZE,
    ) -> None:
        super().__init__()
        self.size = checked_size(size, 1, "resnet18")
        large = min(self.size) >= LARGE_SIDE
        rows, columns = (-(-side // (16 if large else 4)) for side in self.size)
        self.width, self.norm = _checked(width, norm)
        self.features = 4 * width
        self.payload_shape = (self.features, rows, columns)
        self.pooling = "map"
        self.layers = nn.Sequential(
            _conv(channels, width, 7, 2) if large else _conv(channels, width, 3),
            _norm(width, norm),
            nn.ReLU(),
            *([nn.MaxPool2d(3, 2, 1)] if large else []),
            _layer(width, width, 1, norm),
            _layer(width, 2 * width, 2, norm),
            _layer(2 * width, 4 * width, 2, norm),
        )

    def forward(self, images_TCHW: Tensor) -> Tensor:
        """Return the map of images (T, C, H, W) with pixels in [0, 1]."""
        return self.layers(centred(images_TCHW))  # type: ignore[no-any-return]

    def tail(self, classes: int) -> "ResNet18Expert":
        """Return a new expert that is the rest of ResNet-18, of the same width and normalisation."""
        return ResNet18Expert(classes, self.width, self.norm)


class ResNet18Expert(ClassifierExpert):
    """The fourth layer, global average pooling and a linear classifier.

    Args:
        classes: C.
        width: of the extractor.
        norm: of the extractor.

    Raises:
        InvalidInputError: as `ResNet18Extractor`.
    """

    def __init__(self, classes: int, width: int = 64, norm: ResNet18Norm = "batch") -> None:
        super().__init__()
        _checked(width, norm)
        self.layer = _layer(4 * width, 8 * width, 2, norm)
        self.classifier = nn.Linear(8 * width, classes)

    def logits(self, payload_P: Tensor) -> Tensor:
        """Return unnormalised log-probabilities (P, C) of maps (P, 4 width, H', W')."""
        return self.classifier(pool(self.layer(payload_P), "map"))  # type: ignore[no-any-return]


class BasicBlock(nn.Module):
    """relu(f(x) + x): two 3 x 3 convolutions beside a shortcut, a 1 x 1 convolution where shapes differ.

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
        stride: of the first convolution.
        norm: "batch" or "group".
    """

    def __init__(self, inputs: int, outputs: int, stride: int, norm: ResNet18Norm) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            _conv(inputs, outputs, 3, stride),
            _norm(outputs, norm),
            nn.ReLU(),
            _conv(outputs, outputs, 3),
            _norm(outputs, norm),
        )
        self.stride = stride
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(_conv(inputs, outputs, 1), _norm(outputs, norm))

    def forward(self, map_TCHW: Tensor) -> Tensor:
        """Return a map of ``outputs`` channels."""
        # Not the convolution strides, its input is thinned out: with fewer than 8 channels, channels last,
        # the backward pass of oneDNN's strided 1 x 1 convolution corrupts memory where there is no AVX-512.
        thinned_TCHW = map_TCHW[..., :: self.stride, :: self.stride]
        return torch.relu(self.residual(map_TCHW) + self.shortcut(thinned_TCHW))


def _layer(inputs: int, outputs: int, stride: int, norm: ResNet18Norm) -> nn.Sequential:
    return nn.Sequential(BasicBlock(inputs, outputs, stride, norm), BasicBlock(outputs, outputs, 1, norm))


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


def _norm(channels: int, norm: ResNet18Norm) -> nn.Module:
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    return nn.GroupNorm(math.gcd(channels, max(channels // GROUP_CHANNELS, 1)), channels)


def _checked(width: int, norm: ResNet18Norm) -> tuple[int, ResNet18Norm]:
    checked_norm(norm, get_args(ResNet18Norm))
    return integer_at_least("width", width, 1), norm
