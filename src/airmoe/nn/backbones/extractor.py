"""What every feature extractor provides.

Shape suffixes: T items, C channels, H height, W width.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable

from torch import Tensor, nn

from airmoe.checks import integer_at_least
from airmoe.errors import InvalidInputError, one_of
from airmoe.nn.experts import ClassifierExpert
from airmoe.nn.pooling import Pooling

ImageSize = tuple[int, int]
"""Height and width of images, pixels."""

USUAL_SIZE: ImageSize = (32, 32)
"""The size of images where nobody says otherwise."""

PIXELS_AT_ONCE = 500 * math.prod(USUAL_SIZE)


class Extractor(nn.Module, ABC):
    """Images (T, C, H, W), float32 in [0, 1], to the payload that travels to experts.

    Every device that asks has the extractor.

    Attributes:
        size: height and width of the images that the network sees, pixels.
        frozen: whether no training changes it.
        features: width of the pooled payload, which is what a gate sees.
        payload_shape: of one item's payload.
        pooling: what a payload is.
    """

    size: ImageSize
    frozen: bool = False
    features: int
    payload_shape: tuple[int, ...]
    pooling: Pooling

    @property
    def images_at_once(self) -> int:
        """How many images may be evaluated together: as many pixels as 500 images of 32 x 32."""
        return max(1, PIXELS_AT_ONCE // math.prod(self.size))

    @abstractmethod
    def tail(self, classes: int) -> ClassifierExpert:
        """Return a new expert that is the rest of this network.

        Raises:
            InvalidInputError: this extractor has no rest.
        """


def centred(images_TCHW: Tensor) -> Tensor:
    """Return pixels of [0, 1] as values of [-2, 2].

    Extractors do this themselves, so nobody who runs the exported network can forget it.
    """
    return (images_TCHW - 0.5) / 0.25


def checked_size(size: ImageSize, smallest: int, backbone: str) -> ImageSize:
    """Return ``size``; raise `InvalidInputError` if a side is no integer or has fewer pixels than allowed."""
    height, width = (integer_at_least("size of images", side, 1) for side in size)
    if min(height, width) < smallest:
        raise InvalidInputError("size of images", size, f"{smallest} x {smallest} at least for {backbone}")
    return height, width


def checked_norm(norm: str, known: Iterable[str]) -> str:
    """Return ``norm``; raise `InvalidInputError` if it is none of the known ones."""
    names = tuple(known)
    if norm not in names:
        raise InvalidInputError("norm", norm, one_of(norm, names))
    return norm
