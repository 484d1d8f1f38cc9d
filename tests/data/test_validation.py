"""``validation:NAME``: settings are chosen on images that are neither trained on nor held out."""

import numpy as np
import pytest

from airmoe.data import ImageSet, is_official, load_images
from airmoe.data.split import validation_images
from airmoe.errors import DataError


def rows(images_TCHW: np.ndarray) -> set[bytes]:
    return {image.tobytes() for image in images_TCHW}


def test_a_fifth_of_each_class_takes_the_place_of_the_held_out_images() -> None:
    whole, part = load_images("digits"), load_images("validation:digits")
    assert part.name == "validation:digits"
    assert part.class_names == whole.class_names
    counts_C, held_out_C = np.bincount(whole.train_labels), np.bincount(part.test_labels)
    assert np.array_equal(held_out_C, counts_C // 5)
    assert np.array_equal(np.bincount(part.train_labels) + held_out_C, counts_C)


def test_no_held_out_image_is_read_and_no_image_is_on_both_sides() -> None:
    whole, part = load_images("digits"), load_images("validation:digits")
    only_held_out = rows(whole.test_images) - rows(whole.train_images)
    assert only_held_out
    assert not only_held_out & (rows(part.train_images) | rows(part.test_images))
    assert rows(part.train_images) | rows(part.test_images) == rows(whole.train_images)
    both = len(part.train_images) + len(part.test_images)
    assert both == len(whole.train_images)


def test_images_keep_their_labels() -> None:
    label_of = {
        image.tobytes(): label
        for whole in [load_images("digits")]
        for image, label in zip(whole.train_images, whole.train_labels, strict=True)
    }
    part = load_images("validation:digits")
    for image, label in zip(part.test_images, part.test_labels, strict=True):
        assert label_of[image.tobytes()] == label


def test_a_class_of_one_image_cannot_be_split() -> None:
    pixels = np.zeros((3, 1, 32, 32), np.uint8)
    images = ImageSet("few", pixels, np.array([0, 0, 1]), pixels[:2], np.array([0, 1]), ("cat", "dog"))
    with pytest.raises(
        DataError, match="validation:few: class dog has 1 training images; expected at least 2"
    ):
        validation_images("validation:few", images)


def test_its_files_are_those_of_the_whole_set() -> None:
    names = "cifar10", "validation:cifar100", "digits", "validation:digits", "folder:cifar10", ""
    assert [is_official(name) for name in names] == [True, True, False, False, False, False]
