"""An opened image file as the eye sees it: upright, opaque, 8 bits, grey or RGB.

Shape suffixes: H height, W width.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, PngImagePlugin, TiffImagePlugin

WHITE = 255
"""The ground under what is transparent: paper under ink."""

GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F"})
"""Pillow's modes without colour."""

NEARLY_BLACK = 1 << 12
"""A picture of 16 bits without a brighter value would become at most 15 of 255."""

UPRIGHT = 1
_ORIENTATION, _PHOTOMETRIC, _MIN_IS_WHITE = 274, 262, 0
_BITS, _FORMAT, _UNSIGNED = 258, 339, 1
_DEEP_RGB, _LOWER_BYTES = "RGB;16B", "RGB;16L"
"""Pillow's layouts of 16 bits a channel of which it takes the first byte, as of a PNG, and the second."""

_LIMIT_TAGS = ((280, 281), (340, 341))
"""MinSampleValue and MaxSampleValue of TIFF, then SMinSampleValue and SMaxSampleValue."""

_Tags = Mapping[int, Any]

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture upright, by the value of EXIF's orientation."""


def orientation_of(image: Image.Image) -> tuple[int, str]:
    """Return EXIF's orientation of a loaded picture, 1 to 8, and what is wrong with the EXIF data, or "".

    A picture whose data are damaged counts as upright.
    """
    try:
        with warnings.catch_warnings(record=True) as complaints:
            warnings.simplefilter("always")
            if stored := image.info.get("exif"):
                Image.Exif().load(stored)  # for JPEG, Pillow itself has passed over an error by now
            orientation = image.getexif().get(_ORIENTATION)
    except Exception as error:  # Pillow raises SyntaxError, struct.error, ValueError and more
        return UPRIGHT, " ".join(str(error).split()) or type(error).__name__
    if not orientation:
        return UPRIGHT, " ".join(str(complaints[0].message).split()) if complaints else ""
    if orientation == UPRIGHT or orientation in _TURNS:
        return orientation, ""
    return UPRIGHT, f"the orientation is {orientation!r}; expected 1 to 8"


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """Return a picture that is stored in an orientation of EXIF as an upright one."""
    return image if orientation == UPRIGHT else image.transpose(_TURNS[orientation])


def as_seen(image: Image.Image, mode: str) -> Image.Image:
    """Return a loaded picture in "L" or "RGB", on white where it is transparent.

    Raises:
        ValueError: its values have no known range, or are nearly black by the range that the file gives.
    """
    if image.mode.startswith("I") or image.mode == "F":
        grey_HW, alpha_HW = _deep_grey(image)
        over_white_HW = grey_HW * alpha_HW + WHITE * (1 - alpha_HW)
        return Image.fromarray(np.rint(over_white_HW).astype(np.uint8)).convert(mode)
    if image.mode == "LAB":
        image = _from_lab(image)
    if image.has_transparency_data:
        if image.mode == "La":
            image = image.convert("LA")
        opaque = Image.new("RGBA", image.size, (WHITE,) * 4)
        opaque.alpha_composite(image.convert("RGBA"))
        image = opaque
    return image.convert(mode)


def loaded(image: Image.Image) -> Image.Image:
    """Load an opened picture; the transparent colour of a PNG is told from others by all of its bits."""
    tiles = image.tile if isinstance(image, ImageFile.ImageFile) else []
    colour, layout = image.info.get("transparency"), tiles[0][3] if tiles else None
    if layout in ("L;2", "L;4") and isinstance(colour, int):  # Pillow brings the pixels alone to 8 bits
        image.info["transparency"] = colour * (85 if layout == "L;2" else 17)
    if layout == _DEEP_RGB and isinstance(image, PngImagePlugin.PngImageFile) and isinstance(colour, tuple):
        return _without_deep_colour(image, colour)
    image.load()
    return image


def _without_deep_colour(image: PngImagePlugin.PngImageFile, colour: tuple[int, ...]) -> Image.Image:
    """Return a PNG of 16 bits a channel in which one colour is transparent; Pillow reads the upper 8 bits."""
    with Image.open(image.filename, formats=("PNG",)) as lower:
        assert isinstance(lower, ImageFile.ImageFile)
        lower.tile = [(*lower.tile[0][:3], _LOWER_BYTES)]  # type: ignore[list-item]  # Pillow takes any tuple
        lower.load()
        values_HWC = np.asarray(image, np.uint16) << 8 | np.asarray(lower)
    opaque_HW = (values_HWC != colour).any(axis=2)
    image.info.pop("transparency")
    shown = image.convert("RGBA")
    shown.putalpha(Image.fromarray(opaque_HW.astype(np.uint8) * 255))
    return shown


def _deep_grey(image: Image.Image) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return grey values from 0 to 255 and the opacity from 0 to 1, both (H, W), of more than 8 bits."""
    stored_HW = np.asarray(image)
    tags: _Tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    unsigned = tags.get(_FORMAT, (_UNSIGNED,))[0] == _UNSIGNED
    if tags.get(_BITS) == (32,) and image.mode == "I" and unsigned:
        stored_HW = stored_HW.view(np.uint32)  # Pillow takes the first bit for a sign
    values_HW = stored_HW.astype(np.float32)
    if not np.isfinite(values_HW).all():
        raise ValueError("a pixel is not a finite number")
    darkest, brightest, said = _limits(image, tags)
    if not said and 0 < values_HW.max() < NEARLY_BLACK and brightest == 65535:
        raise ValueError(
            f"the brightest of its 16-bit pixels is {values_HW.max():.0f} of 65535, nearly black; expected "
            "brighter ones: multiply 12 bits by 16, or name 4095 in TIFF's tag MaxSampleValue (PNG has none)"
        )
    grey_HW = ((values_HW - darkest) / (brightest - darkest)).clip(0, 1) * 255
    if tags.get(_PHOTOMETRIC) == _MIN_IS_WHITE:
        grey_HW = 255 - grey_HW
    see_through = image.info.get("transparency")
    opaque_HW = np.ones_like(values_HW) if see_through is None else values_HW != see_through
    return grey_HW, opaque_HW.astype(np.float32)


def _limits(image: Image.Image, tags: _Tags) -> tuple[float, float, bool]:
    """Return the values of black and white, and whether the file names them."""
    for low, high in _LIMIT_TAGS:
        if high in tags:
            black, white = (float(np.ravel(tags.get(tag, 0))[0]) for tag in (low, high))
            if not black < white:
                raise ValueError(f"its pixels are said to lie between {black:g} and {white:g}")
            return black, white, True
    if image.mode == "F" or tags.get(_BITS) == (32,) or tags.get(_FORMAT, (_UNSIGNED,))[0] != _UNSIGNED:
        kind = "floating-point" if image.mode == "F" else "signed or 32-bit"
        raise ValueError(
            f"{kind} pixels have no known range; expected 8 or 16 bits, or TIFF's tag SMaxSampleValue"
        )
    return 0.0, 4095.0 if tags.get(_BITS) == (12,) else 65535.0, tags.get(_BITS) == (12,)


def _from_lab(image: Image.Image) -> Image.Image:
    """Return CIE L*a*b* colours, under the light of D50, as RGB."""
    from PIL import ImageCms

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    assert converted is not None  # it is, unless done in place
    return converted
