"""LeNet-5: two convolution blocks | three fully connected layers.

Shape suffixes: T items, P (item, expert) pairs, F features, C channels or classes, H height, W width.
"""

from typing import Literal, get_args

from torch import Tensor, nn

from airmoe.nn.backbones.extractor import Extractor, centred, checked_norm
from airmoe.nn.experts import ClassifierExpert
from airmoe.nn.pooling import Pooling

LeNet5Norm = Literal["group", "none"]


class LeNet5Extractor(Extractor):
    """The two convolution blocks of LeNet-5, for 32 x 32 images: (T, C, 32, 32) to (T, 400).

    Args:
        channels: 1 for grey images, 3 for colour.
        norm: "group" puts group normalisation after each convolution, which steadies federated averaging
            under label skew (batch statistics would differ from client to client); "none" is the original.

    Raises:
        InvalidInputError: another ``norm``.
    """

    features = 400
    payload_shape = (400,)
    pooling: Pooling = "vector"

    def __init__(self, channels: int, norm: LeNet5Norm = "group") -> None:
        super().__init__()
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
        """Return features (T, 400) of images (T, C, 32, 32) with pixels in [0, 1]."""
        return self.layers(centred(images_TCHW))  # type: ignore[no-any-return]

    def tail(self, classes: int) -> "LeNet5Expert":
        """Return a new expert that is the rest of LeNet-5."""
        return LeNet5Expert(classes)


class LeNet5Expert(ClassifierExpert):
    """The fully connected layers of LeNet-5, 400-120-84-C, with ReLU.

    Args:
        classes: C.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(LeNet5Extractor.features, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, classes),
        )

    def logits(self, payload_P: Tensor) -> Tensor:
        """Return unnormalised log-probabilities (P, C) of features (P, 400)."""
        return self.layers(payload_P)  # type: ignore[no-any-return]
