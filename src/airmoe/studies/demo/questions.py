"""The held-out images that every client asks about.

Shape suffixes: T images, C channels, H height, W width.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from airmoe.data import ImageSet, as_pixels
from airmoe.randomness import stream


@dataclass(frozen=True, eq=False)
class Questions:
    """The images, and what is known about them.

    Attributes:
        images_TCHW: uint8.
        labels_T: int64, their classes.
        class_names: names of all classes.
        holds: for each client the classes in its data.
    """

    images_TCHW: NDArray[np.uint8]
    labels_T: NDArray[np.int64]
    class_names: tuple[str, ...]
    holds: Sequence[Sequence[int]]

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    @property
    def clients(self) -> int:
        """The number of clients."""
        return len(self.holds)

    @property
    def pixels_TCHW(self) -> Tensor:
        """The images, float32 in [0, 1]."""
        return torch.from_numpy(as_pixels(self.images_TCHW))


def draw_questions(images: ImageSet, holds: Sequence[Sequence[int]], most: int, seed: int) -> Questions:
    """Return at most ``most`` held-out images; if there are more, a seeded draw."""
    drawn = stream(seed, "asked images").permutation(len(images.test_labels))[:most]
    return Questions(images.test_images[drawn], images.test_labels[drawn], images.class_names, holds)


def save_samples(questions: Questions, folder: Path) -> None:
    """Save one image of each class, to try ``airmoe predict`` on."""
    folder.mkdir()
    for number in sample_numbers(questions):
        label = questions.labels_T[number]
        name = "".join(letter if letter.isalnum() else "-" for letter in questions.class_names[label])
        (folder / f"{name}.png").write_bytes(as_png(questions.images_TCHW[number]))


def sample_numbers(questions: Questions) -> list[int]:
    """Return the number of the first image of each class that is asked about."""
    return [int(np.flatnonzero(questions.labels_T == label)[0]) for label in np.unique(questions.labels_T)]


def as_png(image_CHW: NDArray[np.uint8]) -> bytes:
    """Return an image as a PNG file."""
    pixels = image_CHW[0] if len(image_CHW) == 1 else image_CHW.transpose(1, 2, 0)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()
