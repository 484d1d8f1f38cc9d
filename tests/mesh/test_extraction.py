"""Features before a deadline: what cannot be done in time is refused as soon as it shows."""

import time

import numpy as np
import pytest
from numpy.typing import NDArray

from airmoe.errors import DeadlineError
from airmoe.mesh.extraction import PIECE, extracted

Batch = NDArray[np.float32]


def doubled(pixels_T: Batch) -> Batch:
    return 2 * pixels_T


@pytest.mark.parametrize("items", [1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE])
def test_pieces_are_put_together_in_order(items: int) -> None:
    pixels_T = np.arange(items, dtype=np.float32)
    assert np.array_equal(extracted(doubled, pixels_T, time.monotonic() + 60), 2 * pixels_T)


def test_what_becomes_slower_than_its_first_piece_told_is_refused_when_that_shows() -> None:
    sizes = list[int]()

    def slower(pixels_T: Batch) -> Batch:
        sizes.append(len(pixels_T))
        time.sleep(0.2 * (len(sizes) > 1))
        return pixels_T

    with pytest.raises(DeadlineError, match=f"features of {20 * PIECE} images would take"):
        extracted(slower, np.zeros(20 * PIECE, np.float32), time.monotonic() + 1.0)
    assert len(sizes) <= 3, "long before its deadline"


def test_one_piece_is_never_refused() -> None:
    assert len(extracted(doubled, np.zeros(PIECE, np.float32), time.monotonic() - 1)) == PIECE
