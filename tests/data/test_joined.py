"""Several image sets as one."""

import numpy as np
import pytest

from airmoe.data import ImageSet, is_official, load_images
from airmoe.data.joined import joined_images
from airmoe.errors import InvalidInputError


def set_of(name: str, channels: int, classes: tuple[str, ...], images: int, first_pixel: int) -> ImageSet:
    """Every image of one value, which says which image it is."""
    values_T = np.arange(first_pixel, first_pixel + images, dtype=np.uint8)
    pixels_TCHW = np.broadcast_to(values_T[:, None, None, None], (images, channels, 16, 16)).copy()
    labels_T = np.arange(images) % len(classes)
    return ImageSet(name, pixels_TCHW, labels_T, pixels_TCHW, labels_T, classes)


GREY, COLOUR = set_of("a", 1, ("x", "y"), 40, 10), set_of("b", 3, ("u", "v", "w"), 60, 100)


@pytest.mark.parametrize("part", ["train", "test"])
def test_every_image_keeps_its_class(part: str) -> None:
    joined = joined_images("a+b", [GREY, COLOUR])
    assert joined.class_names == ("x", "y", "u", "v", "w")
    pixels_TCHW, labels_T = getattr(joined, f"{part}_images"), getattr(joined, f"{part}_labels")
    value_T = pixels_TCHW[:, 0, 0, 0].astype(int)
    expected_T = np.where(value_T < 100, (value_T - 10) % 2, 2 + (value_T - 100) % 3)
    assert np.array_equal(labels_T, expected_T)
    assert sorted(value_T) == [*range(10, 50), *range(100, 160)]


def test_grey_images_among_coloured_ones_get_three_equal_channels() -> None:
    joined = joined_images("a+b", [GREY, COLOUR])
    assert joined.train_images.shape == (100, 3, 16, 16)
    assert (joined.train_images == joined.train_images[:, :1]).all()
    assert joined_images("a+a", [GREY, set_of("c", 1, ("z", "q"), 4, 0)]).train_images.shape[1] == 1


def test_the_order_mixes_the_sets_and_is_always_the_same() -> None:
    first, again = (joined_images("a+b", [GREY, COLOUR]) for _ in range(2))
    assert np.array_equal(first.train_labels, again.train_labels)
    assert 10 < (first.train_labels[:50] < 2).sum() < 30, "about 20 of the first 50"


def test_sets_with_a_common_class_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"dataset is 'a\+c'; expected .*'y' is in two"):
        joined_images("a+c", [GREY, set_of("c", 1, ("y", "z"), 4, 0)])
    with pytest.raises(InvalidInputError, match=r"dataset is 'digits\+digits'"):
        load_images("digits+digits")


def test_names_are_joined_and_held_out_images_can_be_training_images() -> None:
    with pytest.raises(InvalidInputError, match=r"dataset is 'digits\+mnist'; expected digits, "):
        load_images("digits+mnist")
    with pytest.raises(InvalidInputError, match=r"dataset is 'digits\+folder:x'"):
        load_images("digits+folder:x")
    assert is_official("digits+cifar10")
    assert is_official("validation:digits+cifar10")
    assert not is_official("folder:cifar10+cifar10")
    assert not is_official("digits+digits")
