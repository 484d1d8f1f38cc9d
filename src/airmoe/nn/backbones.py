"""Networks split into a feature extractor, which every device shares, and experts, which each device owns.

Shape suffixes: T items, C channels or classes, H height, W width, F features.
"""

from typing import Literal

import torch
from torch import Tensor, nn

Norm = Literal["group", "none"]


class LeNet5Extractor(nn.Module):
    """The two convolution blocks of LeNet-5, for 32 x 32 images: (T, C, 32, 32) to (T, 400).

    Pixels come as float32 in [0, 1] and are centred here, so that nobody who runs the exported network can
    forget to.

    Args:
        channels: 1 for grey images, 3 for colour.
        norm: "group" puts group normalisation after each convolution, which steadies federated averaging
            under label skew (batch statistics would differ from client to client); "none" is the original.
    """

    features = 400

    def __init__(self, channels: int, norm: Norm = "group") -> None:
        super().__init__()
        grouped = norm == "group"
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
        return self.layers((images_TCHW - 0.5) / 0.25)  # type: ignore[no-any-return]


class MlpExpert(nn.Module):
    """One expert: features (T, F) to class probabilities (T, C), through one hidden layer.

    Experts answer with probabilities because logits of experts trained apart have no common scale.
    """

    def __init__(self, features: int, classes: int, hidden: int = 256) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, classes))

    def logits(self, features_TF: Tensor) -> Tensor:
        """Return unnormalised log-probabilities (T, C), for training."""
        return self.layers(features_TF)  # type: ignore[no-any-return]

    def forward(self, features_TF: Tensor) -> Tensor:
        """Return class probabilities (T, C)."""
        return torch.softmax(self.logits(features_TF), dim=-1)
