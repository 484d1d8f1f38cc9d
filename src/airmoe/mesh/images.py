"""The images of a query, as a caller hands them over.

Shape suffixes: T images, C channels, H height, W width.
"""

import numpy as np
from numpy.typing import NDArray

from airmoe.errors import InvalidInputError
from airmoe.manifest import InputSpec, LayerSpec
from airmoe.mesh.frame import MAX_BODY_BYTES


def checked_pixels(
    images_TCHW: NDArray[np.uint8] | NDArray[np.float32], spec: InputSpec, layer: LayerSpec
) -> NDArray[np.float32]:
    """Return images as float32 in [0, 1].

    Args:
        images_TCHW: uint8, or float32 in [0, 1]; T >= 1.
        spec: the size that the extractor takes.
        layer: whose payloads have to fit in one message.

    Raises:
        InvalidInputError: wrong shape or dtype, values that are not finite or out of range, or more images
            than fit in one message.
    """
    shape = (spec.channels, spec.height, spec.width)
    expected = f"shape (T, {', '.join(map(str, shape))}), T >= 1"
    if not isinstance(images_TCHW, np.ndarray):
        expected = f"an array of {expected}; airmoe.data.read_image reads a file"
        raise InvalidInputError("images", type(images_TCHW).__name__, expected)
    if images_TCHW.shape[1:] != shape or not len(images_TCHW):
        if images_TCHW.shape == shape:
            expected += ": images[np.newaxis] gives one image its axis of items"
        raise InvalidInputError("images", images_TCHW.shape, expected)
    if len(images_TCHW) > (most := MAX_BODY_BYTES // (4 * layer.most_values)):
        raise InvalidInputError("images", images_TCHW.shape, f"at most {most} images at once")
    if images_TCHW.dtype == np.uint8:
        from airmoe.data import as_pixels  # loads Pillow, which a node that only serves has no use for

        return as_pixels(images_TCHW)  # type: ignore[arg-type]
    if images_TCHW.dtype != np.float32:
        raise InvalidInputError("images", str(images_TCHW.dtype), "uint8, or float32 in [0, 1]")
    if not ((images_TCHW >= 0) & (images_TCHW <= 1)).all():
        raise InvalidInputError("images", "a value outside [0, 1] or NaN", "float32 in [0, 1]")
    return images_TCHW  # type: ignore[return-value]
