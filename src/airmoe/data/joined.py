"""Several image sets as one, for experts of different kinds of images."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from airmoe.data.image_set import ImageSet
from airmoe.errors import InvalidInputError
from airmoe.randomness import stream


def joined_images(name: str, sets: Sequence[ImageSet]) -> ImageSet:
    """Return all images of several sets, in an order that mixes them and never depends on a seed.

    The classes are those of the first set, then those of the second, and so on. Where sets of grey and of
    colour images meet, grey ones get three equal channels.

    Args:
        name: the name of what is returned.
        sets: images of one size, no class in two of them.

    Raises:
        InvalidInputError: two sets have a class of the same name.
    """
    class_names = [each for images in sets for each in images.class_names]
    if twice := sorted({each for each in class_names if class_names.count(each) > 1}):
        raise InvalidInputError("dataset", name, f"sets without a common class; {twice[0]!r} is in two")
    channels = max(images.train_images.shape[1] for images in sets)
    first_class = np.cumsum([0, *(len(images.class_names) for images in sets[:-1])])

    def mixed(part: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        pixels = [_in_colour(getattr(images, f"{part}_images"), channels) for images in sets]
        labels = [
            getattr(images, f"{part}_labels") + first for images, first in zip(sets, first_class, strict=True)
        ]
        order_T = stream(0, f"joined {part} images").permutation(sum(map(len, labels)))
        return np.concatenate(pixels)[order_T], np.concatenate(labels)[order_T]

    return ImageSet(name, *mixed("train"), *mixed("test"), tuple(class_names))


def _in_colour(images_TCHW: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    repeats = channels if images_TCHW.shape[1] == 1 else 1
    return np.repeat(images_TCHW, repeats, axis=1)
