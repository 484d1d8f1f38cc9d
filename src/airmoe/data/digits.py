"""The handwritten digits that scikit-learn ships: real images without a download."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from airmoe.data.image_set import ImageSet
from airmoe.data.split import held_out_split
from airmoe.errors import require

_HELD_OUT = 450
_SIDE = 32
_BRIGHTEST = 16


def load_digits() -> ImageSet:
    """Load 1,797 digits as uint8 1x32x32; 450 of them are held out, in proportion to the classes.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    require("train", "sklearn", by="the set of digits")
    from sklearn import datasets

    digits = datasets.load_digits()
    labels_T = digits.target.astype(np.int64)
    images_TCHW = np.stack([_enlarge(image_HW) for image_HW in digits.images])[:, np.newaxis]
    # Differences of rounded cumulative shares add up to 450 exactly.
    held_out_C = np.diff(np.cumsum(np.bincount(labels_T)) * _HELD_OUT // len(labels_T), prepend=0)
    train, test = held_out_split(labels_T, held_out_C)
    return ImageSet(
        name="digits",
        train_images=images_TCHW[train],
        train_labels=labels_T[train],
        test_images=images_TCHW[test],
        test_labels=labels_T[test],
        class_names=tuple(str(digit) for digit in range(10)),
    )


def _enlarge(image_HW: NDArray[np.float64]) -> NDArray[np.uint8]:
    grey = Image.fromarray(np.rint(image_HW * (255 / _BRIGHTEST)).astype(np.uint8))
    return np.asarray(grey.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR))
