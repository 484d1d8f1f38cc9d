"""The form in which every image set reaches training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Labelled images in a training and a held-out part.

    Attributes:
        name: what `airmoe.data.load_images` was asked for.
        train_images: uint8, (T, C, H, W).
        train_labels: int64, (T,), indices into ``class_names``.
        test_images: uint8, (T', C, H, W), never seen in training.
        test_labels: int64, (T',).
        class_names: one name per class.
    """

    name: str
    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    class_names: tuple[str, ...]


def as_pixels(images_TCHW: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the pixels of images as networks take them: float32 in [0, 1]."""
    return images_TCHW.astype(np.float32) / np.float32(255)
