"""Images mirrored and moved: every pixel is where it belongs."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor

from airmoe.channel_aware.augmentation import augmented

Change = tuple[bool, int, int]
"""(mirrored, pixels down, pixels to the right)."""


def images(batch: int, height: int = 4, width: int = 5) -> Tensor:
    """Images of 2 channels, all pixels of a row different."""
    pixels = np.random.default_rng(0).permuted(np.arange(256, dtype=np.uint8))
    return torch.from_numpy(np.resize(pixels, (batch, 2, height, width)).copy())


def changed(image: list[list[list[int]]], change: Change) -> list[list[list[int]]]:
    """By hand: each pixel on its own; what comes from outside is black."""
    (mirrored, down, right), height, width = change, len(image[0]), len(image[0][0])
    out = [[[0] * width for _ in range(height)] for _ in image]
    for channel, row, column in itertools.product(range(len(image)), range(height), range(width)):
        from_row, from_column = row - down, column - right
        if 0 <= from_row < height and 0 <= from_column < width:
            origin = width - 1 - from_column if mirrored else from_column
            out[channel][row][column] = image[channel][from_row][origin]
    return out


def changes_of(images_BCHW: Tensor, flip: bool, shift: int, seed: int = 0) -> list[Change]:
    """What became of each image: the one change that explains all of its pixels."""
    result = augmented(images_BCHW, flip, shift, np.random.default_rng(seed))
    assert result.dtype == torch.float32
    assert result.shape == images_BCHW.shape
    torch.testing.assert_close(result, (255 * result).round() / 255)
    levels_BCHW = (255 * result).round().to(torch.uint8)
    steps = range(-shift, shift + 1)
    found = []
    for before, after in zip(images_BCHW.tolist(), levels_BCHW.tolist(), strict=True):
        (change,) = [
            change
            for change in itertools.product((False, True) if flip else (False,), steps, steps)
            if changed(before, change) == after
        ]
        found.append(change)
    return found


def test_without_changes_images_become_pixels_from_0_to_1() -> None:
    assert set(changes_of(images(4), flip=False, shift=0)) == {(False, 0, 0)}
    extremes = torch.tensor([0, 255], dtype=torch.uint8).reshape(1, 1, 1, 2)
    assert augmented(extremes, False, 0, np.random.default_rng(0)).flatten().tolist() == [0.0, 1.0]


def test_half_of_the_images_are_mirrored() -> None:
    counts = Counter(changes_of(images(400), flip=True, shift=0))
    assert counts.keys() == {(False, 0, 0), (True, 0, 0)}
    assert counts[True, 0, 0] == pytest.approx(200, abs=40)  # four standard deviations


def test_images_are_moved_in_all_directions_alike() -> None:
    counts = Counter(changes_of(images(450), flip=False, shift=1))
    assert len(counts) == 9
    assert max(counts.values()) < 50 + 4 * 50**0.5


def test_images_are_mirrored_and_moved_each_by_a_draw_of_its_own() -> None:
    counts = Counter(changes_of(images(120), flip=True, shift=2))
    assert len(counts) > 35  # of 2 x 25
    assert {change[0] for change in counts} == {False, True}
    assert {change[1] for change in counts} == {change[2] for change in counts} == {-2, -1, 0, 1, 2}
    assert any(change[1] != change[2] for change in counts)


def test_the_same_draws_make_the_same_images() -> None:
    first, again, other = (augmented(images(20), True, 2, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_images_stay_as_they_were() -> None:
    before = images(3)
    augmented(before, True, 2, np.random.default_rng(0))
    assert torch.equal(before, images(3))
