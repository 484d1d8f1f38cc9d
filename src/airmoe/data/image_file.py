"""One image file as an array.

Shape suffixes: C channels, H height, W width.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from airmoe.data.picture import GREY_MODES, as_seen, loaded, orientation_of, turned
from airmoe.errors import DataError, InvalidInputError
from airmoe.files import AnyPath, as_path

# Pillow goes by content: without this list, a file .png that holds PostScript would start Ghostscript.
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "PPM")
_PILLOW_MODE = {1: "L", 3: "RGB"}

_log = logging.getLogger("airmoe.data")


def read_image(path: AnyPath, channels: int, height: int, width: int) -> NDArray[np.uint8]:
    """Read an image file as the eye sees it, in greyscale or RGB, in a given size.

    * **Upright**, as its EXIF data say. If these are damaged, the image is taken as it is stored, and the log
      says so.
    * **On white**: what is transparent shows white, as paper shows under ink.
    * **Bright as the file says.** 16 bits go from 0 to 65535, unless TIFF's tags MaxSampleValue or
      SMaxSampleValue say otherwise. Floating-point, signed and 32-bit pixels need such a tag.
    * **In its shape.** It is resized bilinearly until it fits, and centred. Its outermost pixels are repeated
      around it.

    Colour profiles are not applied.

    Args:
        path: a JPEG, PNG, BMP, WebP, GIF, TIFF or PPM file. Of several frames or pages it gives the first.
        channels: 1 for greyscale, 3 for RGB.
        height: height of the result, pixels.
        width: width of the result, pixels.

    Returns:
        uint8, (C, H, W).

    Raises:
        DataError: the file is missing, is no image that can be read, or is too large to be decoded safely;
            its pixels have no known range, or are 16-bit and so dark that the image would be black.
        InvalidInputError: ``channels`` is neither 1 nor 3, or ``height`` or ``width`` is not positive.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image, UnidentifiedImageError
        >>> from airmoe.data import read_image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "red.png")
        ...     Image.new("RGB", (640, 480), "red").save(path)
        ...     read_image(path, channels=3, height=2, width=2).tolist()
        [[[255, 255], [255, 255]], [[0, 0], [0, 0]], [[0, 0], [0, 0]]]
    """
    pixels_CHW, damage = read_with_damage(as_path(path), channels, height, width)
    if damage:
        _log.warning("%s: its EXIF data are damaged (%s); the image is taken as it is stored", path, damage)
    return pixels_CHW


def image_of_bytes(data: bytes, channels: int, height: int, width: int) -> NDArray[np.uint8]:
    """Return what `read_image` returns of a file with these bytes; damaged EXIF data are passed over.

    Raises:
        DataError: as `read_image`, of "the image".
        InvalidInputError: as `read_image`.
    """
    _refuse_size(channels, height, width)
    with _opened(io.BytesIO(data), "the image") as image:
        return _seen(image, channels, height, width)[0]


def read_with_damage(path: Path, channels: int, height: int, width: int) -> tuple[NDArray[np.uint8], str]:
    """Return what `read_image` returns, and what is wrong with the EXIF data, or "": it logs nothing."""
    _refuse_size(channels, height, width)
    with _opened_file(path) as image:
        return _seen(image, channels, height, width)


def _refuse_size(channels: int, height: int, width: int) -> None:
    if channels not in _PILLOW_MODE:
        raise InvalidInputError("channels", channels, "1 (greyscale) or 3 (RGB)")
    if height < 1:
        raise InvalidInputError("height", height, "at least 1")
    if width < 1:
        raise InvalidInputError("width", width, "at least 1")


def _seen(image: Image.Image, channels: int, height: int, width: int) -> tuple[NDArray[np.uint8], str]:
    picture = loaded(image)
    orientation, damage = orientation_of(image)
    upright = turned(as_seen(picture, _PILLOW_MODE[channels]), orientation)
    pixels_HWC = _fitted(upright, height, width).reshape(height, width, channels)
    return np.ascontiguousarray(pixels_HWC.transpose(2, 0, 1)), damage


def is_greyscale(path: Path) -> bool:
    """Return whether an image file has no colour channels; only its header is read.

    Raises:
        DataError: as `read_image`.
    """
    with _opened_file(path) as image:
        return image.mode in GREY_MODES


def _fitted(image: Image.Image, height: int, width: int) -> NDArray[np.uint8]:
    """Return an image resized into a frame, its shape kept; its edge pixels are repeated around it."""
    scale = min(height / image.height, width / image.width)
    inner = min(width, max(1, round(image.width * scale))), min(height, max(1, round(image.height * scale)))
    resized = np.asarray(image.resize(inner, Image.Resampling.BILINEAR))
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    around = [(top, height - inner[1] - top), (left, width - inner[0] - left)]
    return np.pad(resized, around + [(0, 0)] * (resized.ndim - 2), mode="edge")


def _opened_file(path: Path) -> AbstractContextManager[Image.Image]:
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: not a regular file; expected an image file")
    return _opened(path, str(path))


@contextmanager
def _opened(source: Path | io.BytesIO, called: str) -> Iterator[Image.Image]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged EXIF data, of which we tell ourselves
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(source, formats=_FORMATS) as opened:
                yield opened
    except FileNotFoundError as error:
        raise DataError(f"{called}: no such file") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DataError(f"{called}: too large to be decoded safely ({error})") from error
    except UnidentifiedImageError as error:
        formats = ", ".join(_FORMATS)
        raise DataError(
            f"{called}: cannot be read as an image (it is none of {formats}, or its beginning is damaged)"
        ) from error
    # Pillow's decoders raise SyntaxError, struct.error, EOFError and more on damaged files.
    except Exception as error:
        raise DataError(f"{called}: cannot be read as an image ({error})") from error
