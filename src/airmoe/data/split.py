"""A split into training and held-out images that is the same on every machine and for every seed."""

import numpy as np
from numpy.typing import NDArray

from airmoe.data.image_set import ImageSet
from airmoe.errors import DataError

_FIXED_SEED = 0
_ONE_IN = 5


def held_out_split(
    labels_T: NDArray[np.int64], held_out_C: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hold out ``held_out_C[c]`` images of each class c.

    Args:
        labels_T: int64, (T,), 0 to C-1.
        held_out_C: int64, (C,), at most the images of each class.

    Returns:
        The indices to train on and those held out, each int64 and sorted.
    """
    # Neighbouring files are often alike (one writer, one video), so they are shuffled.
    shuffled_T = np.random.default_rng(_FIXED_SEED).permutation(len(labels_T))
    is_held_out_T = np.zeros(len(labels_T), dtype=np.bool_)
    for label, held_out in enumerate(held_out_C):
        of_class = shuffled_T[labels_T[shuffled_T] == label]
        is_held_out_T[of_class[:held_out]] = True
    return np.flatnonzero(~is_held_out_T).astype(np.int64), np.flatnonzero(is_held_out_T).astype(np.int64)


def validation_images(name: str, images: ImageSet) -> ImageSet:
    """Hold out a fifth of the training images of every class in place of the held-out images.

    Args:
        name: the name of what is returned.
        images: its held-out images are left out.

    Raises:
        DataError: a class has fewer than two training images.
    """
    count_C = np.bincount(images.train_labels, minlength=len(images.class_names))
    if count_C.min() < 2:
        poor = images.class_names[int(count_C.argmin())]
        raise DataError(f"{name}: class {poor} has {count_C.min()} training images; expected at least 2")
    train_T, held_out_T = held_out_split(images.train_labels, np.maximum(count_C // _ONE_IN, 1))
    return ImageSet(
        name,
        images.train_images[train_T],
        images.train_labels[train_T],
        images.train_images[held_out_T],
        images.train_labels[held_out_T],
        images.class_names,
    )
