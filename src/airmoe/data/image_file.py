"""One image file as an array."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from airmoe.errors import DataError, InvalidInputError

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
)
# Pillow goes by content: without this list, a file .png that holds PostScript would start Ghostscript.
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "PPM")
_PILLOW_MODE = {1: "L", 3: "RGB"}


def read_image(path: Path, channels: int, height: int, width: int) -> NDArray[np.uint8]:
    """Read an image file, turn it upright, convert it to greyscale or RGB and resize it bilinearly.

    Args:
        path: a JPEG, PNG, BMP, WebP, GIF, TIFF or PPM file. An animation gives its first frame.
        channels: 1 for greyscale, 3 for RGB.
        height: height of the result, pixels.
        width: width of the result, pixels.

    Returns:
        uint8, (C, H, W).

    Raises:
        DataError: the file is missing, is no image that can be read, or is too large to be decoded safely.
        InvalidInputError: ``channels`` is neither 1 nor 3, or ``height`` or ``width`` is not positive.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> from airmoe.data import read_image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "red.png")
        ...     Image.new("RGB", (640, 480), "red").save(path)
        ...     read_image(path, channels=3, height=2, width=2).tolist()
        [[[255, 255], [255, 255]], [[0, 0], [0, 0]], [[0, 0], [0, 0]]]
    """
    if channels not in _PILLOW_MODE:
        raise InvalidInputError("channels", channels, "1 (greyscale) or 3 (RGB)")
    if height < 1:
        raise InvalidInputError("height", height, "at least 1")
    if width < 1:
        raise InvalidInputError("width", width, "at least 1")
    with _opened(path) as image:
        upright = _with_8_bits(ImageOps.exif_transpose(image))
        flat = upright.convert("RGBA") if upright.has_transparency_data else upright
        resized = flat.convert(_PILLOW_MODE[channels]).resize((width, height), Image.Resampling.BILINEAR)
        pixels_HWC = np.asarray(resized).reshape(height, width, channels)
    return np.ascontiguousarray(pixels_HWC.transpose(2, 0, 1))


def is_greyscale(path: Path) -> bool:
    """Return whether an image file has no colour channels; only its header is read.

    Raises:
        DataError: as `read_image`.
    """
    with _opened(path) as image:
        return image.mode in {"1", "L", "LA", "F"} or image.mode.startswith("I")


def _with_8_bits(image: Image.Image) -> Image.Image:
    # Pillow's own conversion clips 16 bits to 255: all but the darkest pixels become white.
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).clip(0, 65535) // 256).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    return image


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: not a regular file; expected an image file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            opened = Image.open(path, formats=_FORMATS)
        with opened:
            yield opened
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: too large to be decoded safely ({error})") from error
    # Pillow's decoders raise SyntaxError, struct.error, EOFError and more on damaged files.
    except Exception as error:
        raise DataError(f"{path}: cannot be read as an image ({error})") from error
