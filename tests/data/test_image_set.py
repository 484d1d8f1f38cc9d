"""The form of images."""

import numpy as np

from airmoe.data import as_pixels


def test_pixels_are_the_bytes_as_float32_from_0_to_1() -> None:
    images_TCHW = np.arange(256, dtype=np.uint8).reshape(4, 1, 8, 8)
    pixels_TCHW = as_pixels(images_TCHW)
    assert (pixels_TCHW.dtype, pixels_TCHW.shape) == (np.float32, (4, 1, 8, 8))
    assert (float(pixels_TCHW.min()), float(pixels_TCHW.max())) == (0.0, 1.0)
    np.testing.assert_array_equal((pixels_TCHW * 255).round().astype(np.uint8), images_TCHW)
