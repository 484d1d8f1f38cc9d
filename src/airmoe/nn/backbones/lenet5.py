"""LeNet-5: two convolution blocks | three fully connected layers.

Shape suffixes: T items, P (item, expert) pairs, F features, C channels or classes, H height, W width.
"""

from typing import Literal, get_args

from torch import Tensor, nn

from airmoe.nn.backbones.extractor import (
    USUAL_SIZE,
    Extractor,
    ImageSize,
    centred,
    checked_norm,
    checked_size,
)
from airmoe.nn.experts import ClassifierExpert
from airmoe.nn.pooling import Pooling

LeNet5Norm = Literal["group", "none"]

SMALLEST_SIDE = 16
"""Pixels: a smaller image would have no pixel left after the second block."""

FEATURES = 400
"""Features of a 32 x 32 image."""


class LeNet5Extractor(Extractor):
    """The two convolution blocks of LeNet-5: (T, C, H, W) to (T, F), 400 features for 32 x 32 images.

    F is 16 floor(H / 4 - 3) floor(W / 4 - 3): 13,456 for 128 x 128.

    Args:
        channels: 1 for grey images, 3 for colour.
        norm: "group" puts group normalisation after each convolution, which steadies federated averaging
            under label skew (batch statistics would differ from client to client); "none" is the original.
        size: height and width of the images, 16 pixels at least.

    Raises:
        InvalidInputError: another ``norm``, or a smaller ``size``.
    """

    pooling: Pooling = "vector"

    def __init__(self, channels: int, norm: LeNet5Norm = "group", size: ImageSize = USUAL_SIZE) -> None:
        super().__init__()
        self.size = height, width = checked_size(size, SMALLEST_SIDE, "lenet5")
        self.features = 16 * (height // 4 - 3) * (width // 4 - 3)
        self.payload_shape = (self.features,)
        grouped = checked_norm(norm, get_args(LeNet5Norm)) == "group"
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 6, 5),
            nn.GroupNorm(2, 6) if grouped else nn.Identity(),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.GroupNorm(4, 16) if grouped else nn.Identity(),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )

    def forward(self, images_TCHW: Tensor) -> Tensor:
        """Return features (T, F) of images (T, C, H, W) with pixels in [0, 1]."""
        return self.layers(centred(images_TCHW))  # type: ignore[no-any-return]

    def tail(self, classes: int) -> "LeNet5Expert":
        """Return a new expert that is the rest of LeNet-5."""
        return LeNet5Expert(classes, self.features)


class LeNet5Expert(ClassifierExpert):
    """The fully connected layers of LeNet-5, F-120-84-C, with ReLU.

    Args:
        classes: C.
        features: F, of the extractor.
    """

    def __init__(self, classes: int, features: int = FEATURES) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(features, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, classes),
        )

    def logits(self, payload_P: Tensor) -> Tensor:
        """Return unnormalised log-probabilities (P, C) of features (P, F)."""
        return self.layers(payload_P)  # type: ignore[no-any-return]
