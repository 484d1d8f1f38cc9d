import sys

import numpy as np
import pytest
from sklearn import datasets

from airmoe.data import ImageSet, load_images
from airmoe.errors import MissingExtraError


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    return load_images("digits")


def test_images_are_uint8_of_one_channel_32_by_32(digits: ImageSet) -> None:
    assert digits.train_images.shape == (1347, 1, 32, 32)
    assert digits.test_images.shape == (450, 1, 32, 32)
    assert digits.train_images.dtype == digits.test_images.dtype == np.uint8


def test_labels_are_int64_and_classes_are_the_ten_digits(digits: ImageSet) -> None:
    assert digits.train_labels.dtype == digits.test_labels.dtype == np.int64
    assert digits.class_names == tuple("0123456789")


def test_brightness_uses_the_whole_range(digits: ImageSet) -> None:
    assert digits.train_images.min() == 0
    assert digits.train_images.max() == 255


def test_an_enlarged_digit_still_looks_like_the_original(digits: ImageSet) -> None:
    originals = datasets.load_digits().images * (255 / 16)
    all_images = np.concatenate([digits.train_images, digits.test_images])[:, 0].astype(np.float64)
    shrunk = all_images.reshape(-1, 8, 4, 8, 4).mean(axis=(2, 4))
    distance = np.abs(shrunk[:20, np.newaxis] - originals[np.newaxis]).mean(axis=(2, 3))
    nearest = distance.argmin(axis=1)
    assert (datasets.load_digits().target[nearest] == digits.train_labels[:20]).all()


def test_every_digit_is_held_out_in_proportion(digits: ImageSet) -> None:
    held_out = np.bincount(digits.test_labels)
    total = held_out + np.bincount(digits.train_labels)
    assert np.abs(held_out - total * 450 / 1797).max() <= 1


def test_training_and_held_out_images_together_are_the_original_set(digits: ImageSet) -> None:
    labels = np.concatenate([digits.train_labels, digits.test_labels])
    assert (np.bincount(labels) == np.bincount(datasets.load_digits().target)).all()
    images = np.concatenate([digits.train_images, digits.test_images])
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == 1797


def test_the_split_is_the_same_every_time(digits: ImageSet) -> None:
    np.random.seed(1)  # noqa: NPY002  global state must not matter
    again = load_images("digits")
    assert (again.test_images == digits.test_images).all()
    assert (again.train_labels == digits.train_labels).all()


def test_without_scikit_learn_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(
        MissingExtraError, match=r"digits needs sklearn; install with: pip install .*\[train\]"
    ):
        load_images("digits")
