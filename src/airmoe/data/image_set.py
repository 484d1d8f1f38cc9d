"""Labelled images as arrays: what every training and evaluation takes.

Shape suffixes: T items, C channels, H height, W width.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airmoe.checks import refuse_where
from airmoe.errors import InvalidInputError
from airmoe.showing import OneLine, escaped

SHOWN_CLASSES = 10
_PIXELS, _BESIDE = "image-rendering:pixelated", "display:inline-block;margin:4px;text-align:center"

LONGEST_SIDE = 4096
"""The most pixels that an image may have in a row or a column."""

_WHITE_8, _WHITE_16 = 255, 65535


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet(OneLine):
    """Labelled images in a training and a held-out part.

    Args:
        name: the name that `airmoe.data.load_images` was given.
        train_images: uint8, (T, C, H, W), of 1 channel (greyscale) or 3 (RGB).
        train_labels: integers, (T,), indices into ``class_names``, from 0; kept as int64.
        test_images: uint8, (T', C, H, W), held out from training.
        test_labels: integers, (T',), as ``train_labels``.
        class_names: one name per class, two at least; kept as a tuple.

    Raises:
        InvalidInputError: something is not as said above, or the pixels are 0 and 1 alone.

    Examples:
        Images of [0, 1], as other libraries have them, become bytes first:

        >>> import numpy as np
        >>> from airmoe.data import ImageSet
        >>> grey_THW = np.linspace(0, 1, 4 * 28 * 28).reshape(4, 28, 28)
        >>> images_TCHW = np.rint(255 * grey_THW).astype(np.uint8)[:, None]
        >>> labels_T = np.array([0, 1, 0, 1])
        >>> ImageSet("mine", images_TCHW, labels_T, images_TCHW, labels_T, ("dark", "bright")).name
        'mine'
    """

    name: str
    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        class_names = _checked_names(self.class_names)
        object.__setattr__(self, "class_names", class_names)
        for part in ("train", "test"):
            images_TCHW, labels = getattr(self, f"{part}_images"), f"{part}_labels"
            _check_images(f"{part}_images", images_TCHW)
            labels_T = _checked_labels(labels, getattr(self, labels), len(images_TCHW), len(class_names))
            object.__setattr__(self, labels, labels_T)
        train_shape, test_shape = self.train_images.shape[1:], self.test_images.shape[1:]
        if test_shape != train_shape:
            raise InvalidInputError("shape of a test image", test_shape, f"{train_shape}, as in training")

    def __repr__(self) -> str:
        channels, height, width = self.train_images.shape[1:]
        parts = f"{len(self.train_labels)} to train on, {len(self.test_labels)} held out"
        return (
            f"ImageSet({self.name!r}, {len(self.class_names)} classes, {parts}, {channels}x{height}x{width})"
        )

    def _repr_html_(self) -> str:
        """Return an image of each of the first classes."""
        figures = []
        for label, name in list(enumerate(self.class_names))[:SHOWN_CLASSES]:
            for image in np.flatnonzero(self.train_labels == label)[:1]:
                drawn = (
                    f'<img src="{_data_url(self.train_images[image])}" width="64" alt="" style="{_PIXELS}"/>'
                )
                caption = f"<figcaption>{escaped(name)}</figcaption>"
                figures.append(f'<figure style="{_BESIDE}">{drawn}{caption}</figure>')
        return f"<div>{escaped(repr(self))}</div>{''.join(figures)}"


def _data_url(image_CHW: NDArray[np.uint8]) -> str:
    from PIL import Image  # loads slowly

    file = io.BytesIO()
    pixels_HWC = image_CHW.transpose(1, 2, 0)
    Image.fromarray(pixels_HWC[..., 0] if pixels_HWC.shape[2] == 1 else pixels_HWC).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def as_pixels(images_TCHW: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the pixels of images as networks take them: float32 in [0, 1].

    Raises:
        InvalidInputError: images that are no array of uint8.
    """
    if not isinstance(images_TCHW, np.ndarray):
        raise InvalidInputError("images", type(images_TCHW).__name__, "a NumPy array, uint8 from 0 to 255")
    if images_TCHW.dtype != np.uint8:
        raise InvalidInputError("images", _described(images_TCHW), "uint8 from 0 to 255")
    return images_TCHW.astype(np.float32) / np.float32(255)


def _checked_names(class_names: Sequence[str]) -> tuple[str, ...]:
    if isinstance(class_names, str) or not all(isinstance(name, str) and name for name in class_names):
        raise InvalidInputError("class_names", class_names, "one text for each class")
    if len(class_names) < 2:
        raise InvalidInputError("class_names", tuple(class_names), "two at least")
    for name in class_names:
        if list(class_names).count(name) > 1:
            raise InvalidInputError("class_names", name, "a name of its own for each class")
    return tuple(class_names)


def _check_images(name: str, images: NDArray[Any]) -> None:
    if not isinstance(images, np.ndarray):
        raise InvalidInputError(name, type(images).__name__, "a NumPy array, uint8 of shape (T, C, H, W)")
    if images.dtype != np.uint8:
        raise InvalidInputError(name, _described(images), f"uint8 from 0 to 255{_how_to_uint8(images)}")
    _check_shape(name, images.shape)
    if images.max() == 1:
        expected = "up to 255: 255 * images, if 1 means white"
        raise InvalidInputError(f"the brightest pixel of {name}", 1, expected)


def _how_to_uint8(images: NDArray[Any]) -> str:
    """Return the way from numbers of a range that is usual to bytes, or ""."""
    if (
        images.dtype.kind not in "biuf"
        or not images.size
        or not np.isfinite(images).all()
        or images.min() < 0
    ):
        return ""
    brightest = images.max()
    if brightest <= 1:
        return ": np.rint(255 * images).astype(np.uint8), if 1 means white"
    if brightest <= _WHITE_8:
        return ": np.rint(images).astype(np.uint8), if 255 means white"
    if brightest <= _WHITE_16:
        return ": np.rint(images / 257).astype(np.uint8), if 65535 means white"
    return ""


def _check_shape(name: str, shape: tuple[int, ...]) -> None:
    expected = "(T, C, H, W) with T of at least 1 and C of 1 (greyscale) or 3 (RGB)"
    if len(shape) == 3:
        expected += ": images[:, np.newaxis] gives greyscale images their axis of channels"
    elif len(shape) == 4 and shape[1] not in (1, 3) and shape[3] in (1, 3):
        expected += ": images.transpose(0, 3, 1, 2) puts the last axis there"
    if len(shape) != 4 or shape[1] not in (1, 3) or not shape[0]:
        raise InvalidInputError(f"shape of {name}", shape, expected)
    if not all(1 <= side <= LONGEST_SIDE for side in shape[2:]):
        raise InvalidInputError(
            f"shape of {name}", shape, f"a height and width of 1 to {LONGEST_SIDE} pixels"
        )


def _checked_labels(name: str, labels: NDArray[Any], images: int, classes: int) -> NDArray[np.int64]:
    labels_T = np.asarray(labels)
    if labels_T.dtype.kind not in "iu":
        expected = "integers, the classes' numbers from 0"
        if labels_T.shape == (images, classes):
            expected += ": labels.argmax(axis=1), if they are one-hot"
        elif labels_T.dtype.kind in "bf":
            expected += ": labels.astype(np.int64), if they are whole numbers"
        elif labels_T.dtype.kind in "US":
            expected += ": [class_names.index(label) for label in labels], if they are names"
        raise InvalidInputError(name, _described(labels_T), expected)
    if labels_T.shape != (images,):
        expected = f"({images},), a label for each image"
        if labels_T.shape == (images, classes):
            expected += ": labels.argmax(axis=1), if they are one-hot"
        elif labels_T.shape == (images, 1):
            expected += ": labels[:, 0]"
        raise InvalidInputError(f"shape of {name}", labels_T.shape, expected)
    expected = f"a class from 0 to {classes - 1}"
    if labels_T.min() == 1 and labels_T.max() == classes:
        expected += ": labels - 1, if the first class is 1"
    refuse_where(name, labels_T, (labels_T < 0) | (labels_T >= classes), expected)
    return labels_T.astype(np.int64, copy=False)


def _described(array: NDArray[Any]) -> str:
    """Return e.g. "float32 from 0 to 1"."""
    if not array.size or array.dtype.kind not in "biuf":
        return str(array.dtype)
    if not np.isfinite(array).all():
        return f"{array.dtype} with values that are not finite"
    return f"{array.dtype} from {array.min():g} to {array.max():g}"
