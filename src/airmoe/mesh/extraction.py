"""Features of a batch before its deadline: in pieces, refused at once where they would take too long.

Shape suffixes: T images, C channels, H height, W width.
"""

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from airmoe.errors import DeadlineError

PIECE = 512
"""How many items a client's own networks take at once; between two pieces it looks at the clock."""


def extracted(
    extractor: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    pixels_TCHW: NDArray[np.float32],
    end_s: float,
) -> NDArray[np.float32]:
    """Return the payloads (T, ...) of images. Each piece tells whether all can be done in time.

    Args:
        extractor: images to payloads.
        pixels_TCHW: the images.
        end_s: the deadline, by the monotonic clock.

    Raises:
        DeadlineError: there are more images than `PIECE`, and they would take too long.
    """
    begin_s, items = time.monotonic(), len(pixels_TCHW)
    left_s = max(end_s - begin_s, 0.0)
    pieces = list[NDArray[np.float32]]()
    for begin in range(0, items, PIECE):
        pieces.append(extractor(pixels_TCHW[begin : begin + PIECE]))
        needs_s = (time.monotonic() - begin_s) * items / min(begin + PIECE, items)
        if items > PIECE and needs_s > left_s:
            raise DeadlineError(
                f"features of {items} images would take {needs_s:.1f} s here, and {left_s:.1f} s are left; "
                "ask about fewer at once, or allow more time"
            )
    return np.concatenate(pieces)
