"""What every feature extractor provides.

Shape suffixes: T items, C channels, H height, W width.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable

from torch import Tensor, nn

from airmoe.errors import InvalidInputError
from airmoe.nn.experts import ClassifierExpert
from airmoe.nn.pooling import Pooling


class Extractor(nn.Module, ABC):
    """Images (T, C, 32, 32), float32 in [0, 1], to the payload that travels to experts.

    Every device that asks has the extractor.

    Attributes:
        features: width of the pooled payload, which is what a gate sees.
        payload_shape: of one item's payload.
        pooling: what a payload is.
    """

    features: int
    payload_shape: tuple[int, ...]
    pooling: Pooling

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


def checked_norm(norm: str, known: Iterable[str]) -> str:
    """Return ``norm``; raise `InvalidInputError` if it is none of the known ones."""
    names = tuple(known)
    if norm not in names:
        raise InvalidInputError("norm", norm, f"one of {', '.join(names)}")
    return norm
