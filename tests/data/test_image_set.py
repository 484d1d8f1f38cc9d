"""The form of images."""

from typing import Any

import numpy as np
import pytest

from airmoe.data import ImageSet, as_pixels
from airmoe.errors import InvalidInputError

BYTES = np.random.default_rng(0).integers(0, 256, (4, 3, 28, 20), dtype=np.uint8)
FLOATS = BYTES / np.float32(255)
LABELS = np.array([0, 1, 2, 1])


def image_set(**changed: Any) -> ImageSet:
    parts = {
        "name": "mine",
        "train_images": BYTES,
        "train_labels": LABELS,
        "test_images": BYTES[:2],
        "test_labels": LABELS[:2],
        "class_names": ("a", "b", "c"),
    }
    return ImageSet(**(parts | changed))


def test_pixels_are_the_bytes_as_float32_from_0_to_1() -> None:
    images_TCHW = np.arange(256, dtype=np.uint8).reshape(4, 1, 8, 8)
    pixels_TCHW = as_pixels(images_TCHW)
    assert (pixels_TCHW.dtype, pixels_TCHW.shape) == (np.float32, (4, 1, 8, 8))
    assert (float(pixels_TCHW.min()), float(pixels_TCHW.max())) == (0.0, 1.0)
    np.testing.assert_array_equal((pixels_TCHW * 255).round().astype(np.uint8), images_TCHW)


def test_images_that_are_no_bytes_have_no_pixels() -> None:
    with pytest.raises(InvalidInputError, match=r"images is 'float32 from 0 to 1'; expected uint8"):
        as_pixels(np.array([0.0, 1.0], np.float32))  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.uint16, np.uint64, np.int64])
def test_labels_of_any_integer_type_become_int64(dtype: type) -> None:
    images = image_set(train_labels=LABELS.astype(dtype), test_labels=LABELS[:2].astype(dtype))
    assert images.train_labels.dtype == images.test_labels.dtype == np.int64
    assert images.train_labels.tolist() == LABELS.tolist()


def test_a_list_of_names_becomes_a_tuple() -> None:
    assert image_set(class_names=["a", "b", "c"]).class_names == ("a", "b", "c")


def with_nan() -> Any:
    images = FLOATS.copy()
    images[1, 2, 3, 4] = np.nan
    return images


@pytest.mark.parametrize("part", ["train_images", "test_images"])
@pytest.mark.parametrize(
    ("images", "said"),
    [
        (FLOATS, "is 'float32 from 0 to 1'; expected uint8 from 0 to 255: np.rint(255 * images).astype"),
        (FLOATS * 255, "is 'float32 from 0 to 255'; expected uint8 from 0 to 255: np.rint(images).astype"),
        (BYTES.astype(np.uint16) * 257, "from 0 to 65535'; expected uint8 from 0 to 255: np.rint(images / 2"),
        (FLOATS * 2 - 1, "is 'float32 from -1 to 1'; expected uint8"),
        (with_nan(), "is 'float32 with values that are not finite'; expected uint8"),
        (BYTES.astype(np.int64), "is 'int64 from 0 to 255'; expected uint8 from 0 to 255: np.rint(images)"),
        (BYTES > 99, "is 'bool from 0 to 1'; expected uint8 from 0 to 255: np.rint(255 * images).astype"),
        (BYTES.astype(str), "is '<U3'; expected uint8"),
        (BYTES.tolist(), "is 'list'; expected a NumPy array, uint8 of shape (T, C, H, W)"),
        (BYTES[:, 0], "is (4, 28, 20); expected (T, C, H, W) with T of at least 1 and C of 1 (greyscale)"),
        (BYTES[:, 0], "images[:, np.newaxis] gives greyscale images their axis of channels"),
        (BYTES.transpose(0, 2, 3, 1), "is (4, 28, 20, 3); expected (T, C, H, W) with"),
        (BYTES.transpose(0, 2, 3, 1), ": images.transpose(0, 3, 1, 2) puts the last axis there"),
        (BYTES[:, :2], "is (4, 2, 28, 20); expected (T, C, H, W) with"),
        (BYTES[:0], "is (0, 3, 28, 20); expected (T, C, H, W) with T of at least 1"),
        (BYTES[:, :, :0], "is (4, 3, 0, 20); expected a height and width of 1 to 4096 pixels"),
        (np.zeros((4, 1, 1, 5000), np.uint8), "is (4, 1, 1, 5000); expected a height and width of 1"),
        (BYTES // 128, "the brightest pixel of {part} is 1; expected up to 255: 255 * images"),
    ],
)  # fmt: skip
def test_images_in_another_form_are_refused_in_a_sentence(part: str, images: Any, said: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        image_set(**{part: images})
    assert said.format(part=part) in str(caught.value)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.array([1, 2, 3, 2]), "train_labels[2] is 3; expected a class from 0 to 2: labels - 1"),
        (np.array([0, 1, 3, 2]), "train_labels[2] is 3; expected a class from 0 to 2"),
        (np.array([0, -1, 1, 2]), "train_labels[1] is -1; expected a class from 0 to 2"),
        (np.array([0, 1, 2, 2**64 - 1], np.uint64), "train_labels[3] is 18446744073709551615; expected"),
        (np.array([0.0, 1.0, 2.0, 1.0]), "train_labels is 'float64 from 0 to 2'; expected integers"),
        (np.array([0.0, np.nan, 2.0, 1.0]), "train_labels is 'float64 with values that are not finite'"),
        (np.array(["a", "b", "c", "a"]), "train_labels is '<U1'; expected integers"),
        (np.array(["a", "b", "c", "a"]), "from 0: [class_names.index(label) for label in labels], if"),
        (np.eye(3)[LABELS], "expected integers, the classes' numbers from 0: labels.argmax"),
        (np.array([True, False, True, False]), "train_labels is 'bool from 0 to 1'; expected integers"),
        (np.array([0, 1, 2]), "shape of train_labels is (3,); expected (4,), a label for each image"),
        (np.eye(3, dtype=int)[LABELS], "is (4, 3); expected (4,), a label for each image: labels.argmax"),
        (LABELS[:, np.newaxis], "is (4, 1); expected (4,), a label for each image: labels[:, 0]"),
    ],
)  # fmt: skip
def test_labels_in_another_form_are_refused_in_a_sentence(labels: Any, said: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        image_set(train_labels=labels)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"class_names": "abc"}, "class_names is 'abc'; expected one text for each class"),
        ({"class_names": ("a", 1, "c")}, "expected one text for each class"),
        ({"class_names": ("a", "", "c")}, "expected one text for each class"),
        ({"class_names": ("a",)}, "class_names is ('a',); expected two at least"),
        ({"class_names": ("a", "b", "a")}, "class_names is 'a'; expected a name of its own for each class"),
        ({"test_images": BYTES[:2, :, :20]}, "shape of a test image is (3, 20, 20); expected (3, 28, 20)"),
        ({"test_images": BYTES[:2, :1]}, "shape of a test image is (1, 28, 20); expected (3, 28, 20)"),
    ],
)  # fmt: skip
def test_parts_that_do_not_fit_are_refused_in_a_sentence(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        image_set(**changes)
    assert said in str(caught.value)
