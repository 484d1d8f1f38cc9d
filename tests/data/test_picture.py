"""What the eye sees of every kind of picture, told by formulas that know nothing of Pillow.

Shape suffixes: H height, W width.
"""

import colorsys
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from airmoe.data import read_image
from airmoe.data.picture import as_seen
from airmoe.errors import DataError

Colour = tuple[float, float, float]
PALETTE = [(10, 20, 30), (200, 100, 50), (0, 255, 0), (90, 90, 90)]


def grey(value: float) -> Colour:
    return value, value, value


def on_white(colour: Colour, alpha: float) -> Colour:
    red, green, blue = (part * alpha / 255 + 255 - alpha for part in colour)
    return red, green, blue


def light_through(*ink: float) -> Colour:
    """CMYK: what two layers of ink let pass."""
    cyan, magenta, yellow, key = ink
    red, green, blue = ((255 - layer) * (255 - key) / 255 for layer in (cyan, magenta, yellow))
    return red, green, blue


def of_jfif(y: float, cb: float, cr: float) -> Colour:
    red, blue = y + 1.402 * (cr - 128), y + 1.772 * (cb - 128)
    green = y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128)
    return min(max(red, 0), 255), min(max(green, 0), 255), min(max(blue, 0), 255)


def of_lab(lightness: float, a: float, b: float) -> Colour:
    """CIE L*a*b* under D50 to sRGB (IEC 61966-2-1), adapted to D65 by Bradford's matrix."""
    fy = (lightness * 100 / 255 + 16) / 116
    fx, fz = fy + (a - 128) / 500, fy - (b - 128) / 200
    xyz = [
        white * (f**3 if f**3 > 216 / 24389 else (116 * f - 16) * 27 / 24389)
        for f, white in zip((fx, fy, fz), (0.9642, 1.0, 0.8249), strict=True)
    ]
    linear = np.array(
        [
            [3.1338561, -1.6168667, -0.4906146],
            [-0.9787684, 1.9161415, 0.0334540],
            [0.0719453, -0.2289914, 1.4052427],
        ]
    ) @ np.array(xyz)
    linear = linear.clip(0, 1)
    coded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055) * 255
    return float(coded[0]), float(coded[1]), float(coded[2])


def of_hsv(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue / 255, saturation / 255, value / 255)
    return red * 255, green * 255, blue * 255


Pixel = int | float | tuple[int, ...]

SEEN: dict[str, list[tuple[Pixel, Colour]]] = {
    "1": [(0, grey(0)), (255, grey(255))],
    "L": [(value, grey(value)) for value in (0, 77, 255)],
    "LA": [((v, a), on_white(grey(v), a)) for v, a in ((0, 0), (0, 255), (0, 128), (200, 64))],
    "La": [((v, a), grey(v + 255 - a)) for v, a in ((0, 0), (0, 255), (0, 128), (50, 64))],
    "P": [(number, (float(r), float(g), float(b))) for number, (r, g, b) in enumerate(PALETTE)],
    "PA": [((number, a), on_white(PALETTE[number], a)) for number, a in ((0, 0), (1, 255), (2, 100))],
    "RGB": [(colour, colour) for colour in ((255, 0, 0), (1, 2, 3))],
    "RGBX": [((*colour, 0), colour) for colour in ((255, 0, 0), (1, 2, 3))],
    "RGBA": [
        ((*colour, a), on_white(colour, a)) for colour in ((0, 0, 0), (9, 200, 30)) for a in (0, 99, 255)
    ],
    "RGBa": [
        ((*c, a), on_white((0, 0, 0), a) if not any(c) else (155 + c[0], 155 + c[1], 155 + c[2]))
        for c, a in (((0, 0, 0), 0), ((0, 0, 0), 100), ((20, 40, 60), 100))
    ],
    "CMYK": [(ink, light_through(*ink)) for ink in ((0, 0, 0, 0), (255, 0, 0, 0), (20, 99, 180, 60))],
    "YCbCr": [(colour, of_jfif(*colour)) for colour in ((76, 85, 255), (128, 128, 128), (200, 90, 140))],
    "LAB": [(colour, of_lab(*colour)) for colour in ((255, 128, 128), (0, 128, 128), (140, 160, 100))],
    "HSV": [(colour, of_hsv(*colour)) for colour in ((0, 255, 255), (85, 128, 200), (0, 0, 99))],
    "I": [(value, grey(value / 257)) for value in (0, 5000, 65535)],
    "I;16": [(value, grey(value / 257)) for value in (0, 5000, 65535)],
    "I;16L": [(value, grey(value / 257)) for value in (0, 5000, 65535)],
    "I;16B": [(value, grey(value / 257)) for value in (0, 5000, 65535)],
}
"""For every mode of Pillow with a known range: pixels as they are stored, and what the eye sees on white."""

RANGELESS = {"F"}
TOLERANCE = {"LAB": 3.0, "HSV": 2.0, "YCbCr": 2.0, "RGBa": 2.0, "La": 2.0}


def picture(mode: str, pixels: list[Pixel]) -> Image.Image:
    image = Image.new(mode, (len(pixels), 1))
    if mode in ("P", "PA"):
        image.putpalette([part for colour in PALETTE for part in colour])
    for column, pixel in enumerate(pixels):
        if mode == "PA":
            continue
        image.putpixel((column, 0), pixel)
    if mode == "PA":
        numbers, alphas = zip(*pixels, strict=True)  # type: ignore[arg-type]
        stored = bytes(
            value for number, alpha in zip(numbers, alphas, strict=True) for value in (number, alpha)
        )
        image.frombytes(stored)
    return image


def assert_seen(seen: NDArray[np.uint8], expected: list[Colour], tolerance: float) -> None:
    assert np.abs(seen.reshape(-1, 3).astype(float) - np.array(expected)).max() <= tolerance, seen


def test_no_mode_of_pillow_is_left_out() -> None:
    assert set(Image.MODES) | {"I;16L"} <= SEEN.keys() | RANGELESS | {"I;16N"}


@pytest.mark.parametrize("mode", SEEN)
def test_every_mode_is_seen_on_white(mode: str) -> None:
    pixels, expected = [pixel for pixel, _ in SEEN[mode]], [colour for _, colour in SEEN[mode]]
    seen = np.asarray(as_seen(picture(mode, pixels), "RGB"))
    assert_seen(seen, expected, TOLERANCE.get(mode, 1.0))
    luma = [0.299 * red + 0.587 * green + 0.114 * blue for red, green, blue in expected]
    brightness = np.asarray(as_seen(picture(mode, pixels), "L")).astype(float)
    assert np.abs(brightness[0] - luma).max() <= TOLERANCE.get(mode, 1.0)


STORED = {
    "png": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"],
    "tiff": ["1", "L", "LA", "P", "RGB", "RGBX", "RGBA", "CMYK", "LAB", "I;16", "I;16B", "I;16L"],
    "gif": ["P"],
    "webp": ["RGB", "RGBA"],
    "bmp": ["1", "L", "P", "RGB"],
    "ppm": ["1", "L", "RGB", "I"],
}


@pytest.mark.parametrize(("suffix", "mode"), [(suffix, mode) for suffix in STORED for mode in STORED[suffix]])
def test_every_file_is_seen_on_white(tmp_path: Path, suffix: str, mode: str) -> None:
    pixels, expected = [pixel for pixel, _ in SEEN[mode]], [colour for _, colour in SEEN[mode]]
    path = tmp_path / f"picture.{suffix}"
    picture(mode, pixels).save(path, **({"lossless": True, "exact": True} if suffix == "webp" else {}))
    assert_seen(read_image(path, 3, 1, len(pixels)).transpose(1, 2, 0), expected, TOLERANCE.get(mode, 1.0))


@pytest.mark.parametrize(
    ("mode", "transparency", "pixels"),
    [
        ("P", 1, [0, 1]),
        ("P", b"\xff\x00", [0, 1]),
        ("P", b"\xff\x80", [0, 1]),
        ("L", 77, [5, 77]),
        ("1", 1, [0, 255]),
        ("RGB", (9, 8, 7), [(1, 2, 3), (9, 8, 7)]),
        ("I;16", 30000, [65535, 30000]),
    ],
)
def test_a_colour_that_stands_for_nothing_shows_white(
    tmp_path: Path, mode: str, transparency: object, pixels: list[Pixel]
) -> None:
    path = tmp_path / "picture.png"
    picture(mode, pixels).save(path, transparency=transparency)
    solid = (
        dict(SEEN["P"])[0]
        if mode == "P"
        else {"L": grey(5), "1": grey(0), "RGB": (1, 2, 3), "I;16": grey(255)}[mode]
    )
    hidden = on_white(PALETTE[1], 128) if transparency == b"\xff\x80" else grey(255)
    assert_seen(read_image(path, 3, 1, 2).transpose(1, 2, 0), [solid, hidden], 1.0)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(
    width: int, bits: int, colour_type: int, row: bytes, transparent: bytes, further: bytes = b""
) -> bytes:
    """The content of a file of one row."""
    header = struct.pack(">IIBBBBB", width, 1, bits, colour_type, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"tRNS", transparent) + further
    return content + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("bits", "colour_type", "row", "transparent"),
    [
        (2, 0, b"\x60", b"\0\1"),
        (4, 0, b"\x5a", b"\0\5"),
        (16, 2, b"\1\2\3\4\5\6" + b"\xff" * 6, b"\1\2\3\4\5\6"),
    ],
)
def test_a_png_of_another_depth_names_its_transparent_colour_at_that_depth(
    tmp_path: Path, bits: int, colour_type: int, row: bytes, transparent: bytes
) -> None:
    (tmp_path / "picture.png").write_bytes(png(2, bits, colour_type, row, transparent))
    first, second = read_image(tmp_path / "picture.png", 3, 1, 2)[:, 0].T.tolist()
    assert first == [255, 255, 255]
    assert second == [255 if bits == 16 else 170] * 3


@pytest.mark.parametrize("place", [1, 3, 5])
def test_a_deep_png_shows_a_colour_that_differs_from_the_transparent_one_in_its_last_bits(
    tmp_path: Path, place: int
) -> None:
    hidden, near = b"\x10\x01\x20\x02\x30\x03", bytearray(b"\x10\x01\x20\x02\x30\x03")
    near[place] ^= 1
    (tmp_path / "picture.png").write_bytes(png(2, 16, 2, hidden + bytes(near), hidden))
    first, second = read_image(tmp_path / "picture.png", 3, 1, 2)[:, 0].T.tolist()
    assert (first, second) == ([255, 255, 255], [0x10, 0x20, 0x30])


def test_a_deep_grey_png_shows_a_grey_that_differs_from_the_transparent_one_in_its_last_bit(
    tmp_path: Path,
) -> None:
    (tmp_path / "picture.png").write_bytes(png(2, 16, 0, b"\x80\x01\x80\x00", b"\x80\x01"))
    assert read_image(tmp_path / "picture.png", 1, 1, 2).ravel().tolist() == [255, 128]


def test_a_deep_png_with_a_transparent_colour_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 3
    hidden, seen = b"\x10\x01\x20\x02\x30\x03", b"\x10\x01\x20\x02\x30\x04"
    turned = png(2, 16, 2, hidden + seen, hidden, chunk(b"eXIf", exif.tobytes()[6:]))
    (tmp_path / "picture.png").write_bytes(turned)
    assert read_image(tmp_path / "picture.png", 3, 1, 2)[:, 0].T.tolist() == [[16, 32, 48], [255] * 3]


@pytest.mark.parametrize(
    ("dtype", "tags", "darkest", "brightest"),
    [
        (np.uint16, {281: 4095}, 0, 4095),
        (np.uint16, {280: 100, 281: 1100}, 100, 1100),
        (np.int32, {341: 4095}, 0, 4095),
        (np.int32, {340: -50, 341: 50}, -50, 50),
        (np.float32, {340: 0.0, 341: 1.0}, 0.0, 1.0),
        (np.float32, {340: -2.0, 341: 2.0}, -2.0, 2.0),
    ],
)
def test_pixels_are_scaled_by_what_the_file_says(
    tmp_path: Path, dtype: type, tags: dict[int, float], darkest: float, brightest: float
) -> None:
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in tags.items():
        directory.tagtype[tag] = {np.uint16: 3, np.int32: 9, np.float32: 11}[dtype]  # type: ignore[index]
        directory[tag] = value
    middle = (darkest + brightest) / 2
    stored = np.array([[darkest, middle, brightest]]).astype(dtype)
    Image.fromarray(stored).save(tmp_path / "deep.tiff", tiffinfo=directory)
    assert np.abs(read_image(tmp_path / "deep.tiff", 1, 1, 3)[0, 0] - np.array([0, 127.5, 255])).max() <= 1


def tiff(values: list[int], layout: str, bits: int, *, sample_format: int = 1, photometric: int = 1) -> bytes:
    """A grey TIFF file, one row, written by hand."""
    pixels = struct.pack(f"<{len(values)}{layout}", *values) if layout else _packed_12(values)
    entries = [
        (256, 4, len(values)),
        (257, 4, 1),
        (258, 3, bits),
        (259, 3, 1),
        (262, 3, photometric),
        (273, 4, 8),
        (277, 3, 1),
        (278, 4, 1),
        (279, 4, len(pixels)),
        (339, 3, sample_format),
    ]
    begin = 8 + len(pixels) + len(pixels) % 2
    directory = struct.pack("<H", len(entries))
    directory += b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0" + struct.pack("<I", begin) + pixels.ljust(begin - 8, b"\0") + directory + bytes(4)


def _packed_12(values: list[int]) -> bytes:
    text = "".join(f"{value:012b}" for value in values)
    return int(text, 2).to_bytes(len(text) // 8, "big")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (tiff([0, 2048, 4095, 1000], "", 12), [0, 127.5, 255, 62.3]),
        (tiff([0, 32768, 65535, 5000], "H", 16), [0, 127.5, 255, 19.5]),
        (tiff([0, 32768, 65535, 5000], "H", 16, photometric=0), [255, 127.5, 0, 235.5]),
    ],
    ids=["12 bits packed", "16 bits", "16 bits, 0 is white"],
)
def test_deep_grey_is_neither_black_nor_clipped(
    tmp_path: Path, content: bytes, expected: list[float]
) -> None:
    (tmp_path / "deep.tiff").write_bytes(content)
    assert np.abs(read_image(tmp_path / "deep.tiff", 1, 1, 4)[0, 0] - np.array(expected)).max() <= 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (tiff([0, 9, 300, 70000], "I", 32), "signed or 32-bit pixels have no known range"),
        (tiff([0, 9, 300, 400], "i", 32, sample_format=2), "signed or 32-bit pixels have no known range"),
        (tiff([0, 9, 300, 400], "h", 16, sample_format=2), "signed or 32-bit pixels have no known range"),
        (
            tiff([0, 9, 300, 4095], "H", 16),
            "is 4095 of 65535, nearly black; expected brighter ones: multi",
        ),
    ],
    ids=["32 bits", "32 bits signed", "16 bits signed", "12 bits in 16"],
)
def test_grey_without_a_known_range_is_refused_by_name(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "deep.tiff").write_bytes(content)
    with pytest.raises(DataError, match=rf"deep\.tiff: cannot be read as an image \(.*{reason}"):
        read_image(tmp_path / "deep.tiff", 1, 1, 4)


def test_a_black_picture_of_16_bits_is_black(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((2, 2), np.uint16)).save(tmp_path / "black.png")
    assert not read_image(tmp_path / "black.png", 1, 2, 2).any()


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tiff"])
def test_of_several_frames_or_pages_the_first_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"moving.{suffix}"
    frames = [Image.new("RGB", (4, 4), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    frames[0].save(
        path, save_all=True, append_images=frames[1:], **({"lossless": True} if suffix == "webp" else {})
    )
    assert read_image(path, 3, 1, 1).ravel().tolist() == [255, 0, 0]


def test_ink_on_nothing_is_ink_on_paper(tmp_path: Path) -> None:
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (2, 2, 6, 6))
    image.save(tmp_path / "ink.png")
    for channels in (1, 3):
        seen_CHW = read_image(tmp_path / "ink.png", channels, 8, 8)
        assert (seen_CHW[:, 2:6, 2:6] == 0).all()
        assert (seen_CHW[:, :2] == 255).all()
