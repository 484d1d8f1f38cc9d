import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from airmoe.data import read_image
from airmoe.errors import DataError, InvalidInputError


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """4 wide, 2 high; the left half red, the right half blue."""
    pixels = np.zeros((2, 4, 3), dtype=np.uint8)
    pixels[:, :2, 0] = 255
    pixels[:, 2:, 2] = 255
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def test_an_image_comes_as_channels_height_width(picture: Path) -> None:
    image = read_image(picture, 3, 2, 4)
    assert image.dtype == np.uint8
    assert image.shape == (3, 2, 4)
    assert image[0].tolist() == [[255, 255, 0, 0]] * 2
    assert image[2].tolist() == [[0, 0, 255, 255]] * 2


def test_an_image_is_resized(picture: Path) -> None:
    image = read_image(picture, 3, 16, 8)
    assert image.shape == (3, 16, 8)
    assert image[0, 0, 0] == image[2, 0, -1] == 255


def test_one_channel_is_the_brightness(picture: Path) -> None:
    image = read_image(picture, 1, 2, 4)
    assert image.tolist() == [[[76, 76, 29, 29]] * 2]  # ITU-R 601: 0.299 red, 0.114 blue


def test_a_greyscale_image_fills_three_channels(tmp_path: Path) -> None:
    Image.new("L", (2, 2), 77).save(tmp_path / "grey.png")
    assert (read_image(tmp_path / "grey.png", 3, 2, 2) == 77).all()


def test_16_bits_are_scaled_to_8(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 256 * 100, 65535]], dtype=np.uint16)).save(tmp_path / "deep.png")
    assert read_image(tmp_path / "deep.png", 1, 1, 3).tolist() == [[[0, 100, 255]]]


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    Image.new("F", (2, 2), 0.5).save(tmp_path / "float.tiff")
    with pytest.raises(DataError, match=r"float\.tiff: .*floating-point"):
        read_image(tmp_path / "float.tiff", 1, 2, 2)


def test_a_palette_with_transparency_gives_no_warning(tmp_path: Path) -> None:
    image = Image.new("P", (2, 2), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.save(tmp_path / "palette.png", transparency=b"\x00\xff")
    assert read_image(tmp_path / "palette.png", 3, 2, 2)[:, 0, 0].tolist() == [10, 20, 30]


def test_a_photo_taken_sideways_is_turned_upright(tmp_path: Path) -> None:
    photo = Image.new("RGB", (4, 2))
    photo.paste((255, 255, 255), (0, 0, 2, 2))
    exif = photo.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    photo.save(tmp_path / "photo.png", exif=exif)
    image = read_image(tmp_path / "photo.png", 1, 4, 2)
    assert image[0, :, 0].tolist() == [255, 255, 0, 0]


ORIENTED = {
    1: [[1, 2], [3, 4]],
    2: [[2, 1], [4, 3]],
    3: [[4, 3], [2, 1]],
    4: [[3, 4], [1, 2]],
    5: [[1, 3], [2, 4]],
    6: [[3, 1], [4, 2]],
    7: [[4, 2], [3, 1]],
    8: [[2, 4], [1, 3]],
}
"""How EXIF says that rows 1 2 and 3 4 are to be shown, by orientation (TIFF 6.0, tag 274)."""


@pytest.mark.parametrize("suffix", ["png", "webp", "tiff", "jpg"])
@pytest.mark.parametrize("orientation", ORIENTED)
def test_every_orientation_is_turned_upright(tmp_path: Path, orientation: int, suffix: str) -> None:
    stored_HW = np.kron(np.array([[1, 2], [3, 4]]) * 60, np.ones((8, 8))).astype(np.uint8)
    photo, exif = Image.fromarray(stored_HW), Image.Exif()
    exif[0x0112] = orientation
    photo.save(tmp_path / f"photo.{suffix}", exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    seen_HW = read_image(tmp_path / f"photo.{suffix}", 1, 16, 16)[0, 4::8, 4::8]
    assert np.rint(seen_HW / 60).tolist() == ORIENTED[orientation]


DAMAGED_EXIF = {
    "no TIFF header": b"Exif\0\0no TIFF header at all",
    "cut": b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\1\3",
    "orientation 9": b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\x09\0\0\0\0\0\0\0",
    "orientation in words": b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\2\0\4\0\0\0up!\0\0\0\0\0",
}


@pytest.mark.parametrize("suffix", ["png", "webp", "jpg"])
@pytest.mark.parametrize("damage", DAMAGED_EXIF)
def test_an_image_with_damaged_exif_data_is_taken_as_it_is_stored(
    tmp_path: Path,
    damage: str,
    suffix: str,
    caplog: pytest.LogCaptureFixture,
    recwarn: pytest.WarningsRecorder,
) -> None:
    file, photo = tmp_path / f"photo.{suffix}", Image.new("L", (4, 2))
    photo.paste(255, (0, 0, 2, 2))
    photo.save(file, exif=DAMAGED_EXIF[damage], **({"lossless": True} if suffix == "webp" else {}))
    image = read_image(file, 1, 2, 4)
    assert (image[0] > 127).tolist() == [[True, True, False, False]] * 2
    (said,) = caplog.messages
    assert said.startswith(f"{file}: its EXIF data are damaged (")
    assert not recwarn.list


def test_a_damaged_tag_elsewhere_does_not_hide_the_orientation(tmp_path: Path) -> None:
    entries = struct.pack("<HHII", 0x0112, 3, 1, 6) + struct.pack("<HHII", 0x8769, 4, 1, 1 << 30)
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 2) + entries + bytes(4)
    photo = Image.new("L", (4, 2))
    photo.paste(255, (0, 0, 2, 2))
    photo.save(tmp_path / "photo.png", exif=exif)
    assert read_image(tmp_path / "photo.png", 1, 4, 2)[0, :, 0].tolist() == [255, 255, 0, 0]


@pytest.mark.parametrize(
    ("size", "frame"), [((4, 2), (8, 8)), ((2, 4), (8, 8)), ((300, 1), (8, 8)), ((4, 2), (3, 9))]
)
def test_an_image_keeps_its_shape_and_its_edge_fills_the_rest(
    tmp_path: Path, size: tuple[int, int], frame: tuple[int, int]
) -> None:
    pixels_HWC = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels_HWC).save(tmp_path / "picture.png")
    height, width = frame
    image_CHW = read_image(tmp_path / "picture.png", 3, height, width)
    scale = min(height / size[1], width / size[0])
    rows, columns = max(1, round(size[1] * scale)), max(1, round(size[0] * scale))
    top, left = (height - rows) // 2, (width - columns) // 2
    alone = np.asarray(Image.fromarray(pixels_HWC).resize((columns, rows), Image.Resampling.BILINEAR))
    row_H = np.clip(np.arange(height) - top, 0, rows - 1)
    column_W = np.clip(np.arange(width) - left, 0, columns - 1)
    assert (image_CHW.transpose(1, 2, 0) == alone[row_H][:, column_W]).all()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.png: no such file"):
        read_image(tmp_path / "none.png", 3, 32, 32)


def test_a_folder_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a regular file"):
        read_image(tmp_path, 3, 32, 32)


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(DataError, match=r"text\.png: cannot be read as an image"):
        read_image(tmp_path / "text.png", 3, 32, 32)


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "gif", "webp", "tiff", "ppm"])
def test_a_truncated_image_is_named(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"cut.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(DataError, match=rf"cut\.{suffix}: cannot be read as an image"):
        read_image(file, 3, 32, 32)


@pytest.mark.parametrize("times_the_limit", [1.5, 3.0])
def test_a_decompression_bomb_is_refused(
    picture: Path, monkeypatch: pytest.MonkeyPatch, times_the_limit: float
) -> None:
    monkeypatch.setattr(
        Image, "MAX_IMAGE_PIXELS", int(8 / times_the_limit)
    )  # Pillow: a warning, an error from twice
    with pytest.raises(DataError, match=r"picture\.png: too large to be decoded safely"):
        read_image(picture, 3, 32, 32)


def test_postscript_is_refused_whatever_it_is_called(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "image.eps")
    (tmp_path / "image.eps").rename(tmp_path / "image.png")
    with pytest.raises(DataError, match="it is none of JPEG, PNG, "):
        read_image(tmp_path / "image.png", 3, 2, 2)


@pytest.mark.parametrize(
    ("channels", "height", "width", "name"), [(2, 8, 8, "channels"), (3, 0, 8, "height"), (3, 8, 0, "width")]
)
def test_an_impossible_size_is_refused(
    picture: Path, channels: int, height: int, width: int, name: str
) -> None:
    with pytest.raises(InvalidInputError, match=f"^{name} is "):
        read_image(picture, channels, height, width)
