from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from airmoe.data import ImageSet, load_images
from airmoe.errors import DataError

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def _write(folder: Path, count: int, colour: tuple[int, int, int] | int = RED, suffix: str = ".png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        mode = "L" if isinstance(colour, int) else "RGB"
        Image.new(mode, (40 + i, 20), colour).save(folder / f"{i:02}{suffix}")


def _load(folder: Path) -> ImageSet:
    return load_images(f"folder:{folder}")


def _failure(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        _load(folder)
    return str(caught.value)


def test_classes_are_the_folders_in_order_of_name(tmp_path: Path) -> None:
    _write(tmp_path / "zebra", 5, RED)
    _write(tmp_path / "ant", 5, GREEN)
    images = _load(tmp_path)
    assert images.class_names == ("ant", "zebra")
    assert images.name == f"folder:{tmp_path}"
    for image, label in zip(images.train_images, images.train_labels, strict=True):
        assert (image[1 if label == 0 else 0] == 255).all()


def test_images_become_uint8_rgb_of_32_by_32(tmp_path: Path) -> None:
    _write(tmp_path / "a", 5)
    _write(tmp_path / "b", 5)
    images = _load(tmp_path)
    assert images.train_images.shape == (8, 3, 32, 32)
    assert images.test_images.shape == (2, 3, 32, 32)
    assert images.train_images.dtype == np.uint8
    assert images.train_labels.dtype == images.test_labels.dtype == np.int64


def test_only_greyscale_images_become_one_channel(tmp_path: Path) -> None:
    _write(tmp_path / "a", 2, 30)
    _write(tmp_path / "b", 2, 200)
    images = _load(tmp_path)
    assert images.train_images.shape == (2, 1, 32, 32)
    assert images.train_images[:, 0, 0, 0].tolist() == [30, 200]


def test_one_image_in_colour_makes_all_of_them_rgb(tmp_path: Path) -> None:
    _write(tmp_path / "a", 2, 30)
    _write(tmp_path / "b", 2, RED)
    assert _load(tmp_path).train_images.shape == (2, 3, 32, 32)


@pytest.mark.parametrize(("count", "held_out"), [(2, 1), (5, 1), (10, 2), (23, 5)])
def test_a_fifth_of_each_class_is_held_out_and_at_least_one(
    tmp_path: Path, count: int, held_out: int
) -> None:
    _write(tmp_path / "a", count)
    _write(tmp_path / "b", 5)
    images = _load(tmp_path)
    assert np.bincount(images.test_labels).tolist() == [held_out, 1]
    assert np.bincount(images.train_labels).tolist() == [count - held_out, 4]


def test_no_image_is_both_trained_on_and_held_out(tmp_path: Path) -> None:
    for name, first in (("a", 0), ("b", 20)):
        for i in range(20):
            _write(tmp_path / name, 0)
            Image.new("L", (32, 32), first + i).save(tmp_path / name / f"{i}.png")
    images = _load(tmp_path)
    shades = [*images.train_images[:, 0, 0, 0].tolist(), *images.test_images[:, 0, 0, 0].tolist()]
    assert sorted(shades) == list(range(40))


def test_the_split_is_the_same_every_time(tmp_path: Path) -> None:
    for i in range(20):
        for name in "ab":
            _write(tmp_path / name, 0)
            Image.new("L", (32, 32), i).save(tmp_path / name / f"{i}.png")
    assert (_load(tmp_path).test_images == _load(tmp_path).test_images).all()


def test_train_and_test_folders_are_the_split(tmp_path: Path) -> None:
    for name in "ab":
        _write(tmp_path / "train" / name, 3, RED)
        _write(tmp_path / "test" / name, 1, BLUE)
    images = _load(tmp_path)
    assert images.class_names == ("a", "b")
    assert images.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert images.test_labels.tolist() == [0, 1]
    assert (images.test_images[:, 2] == 255).all()
    assert (images.train_images[:, 0] == 255).all()


@pytest.mark.parametrize(("train", "test"), [("Train", "Test"), ("TRAIN", "test")])
def test_train_and_test_may_be_spelt_with_capitals(tmp_path: Path, train: str, test: str) -> None:
    for name in "ab":
        _write(tmp_path / train / name, 3)
        _write(tmp_path / test / name, 1)
    images = _load(tmp_path)
    assert images.class_names == ("a", "b")
    assert (len(images.train_labels), len(images.test_labels)) == (6, 2)


def test_train_and_test_with_different_classes_are_refused(tmp_path: Path) -> None:
    for name in ("train/a", "train/b", "test/a", "test/c"):
        _write(tmp_path / name, 1)
    assert "only one of them has b, c" in _failure(tmp_path)


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".png", ".bmp", ".webp", ".gif", ".tiff", ".ppm"])
def test_common_formats_are_read(tmp_path: Path, suffix: str) -> None:
    _write(tmp_path / "a", 2, suffix=suffix)
    _write(tmp_path / "b", 2)
    assert _load(tmp_path).train_images.shape == (2, 3, 32, 32)


def test_other_files_and_hidden_ones_are_passed_over(tmp_path: Path) -> None:
    _write(tmp_path / "a", 2)
    _write(tmp_path / "b", 2)
    (tmp_path / ".git").mkdir()
    (tmp_path / "README.txt").touch()
    (tmp_path / "a" / "notes.txt").touch()
    (tmp_path / "a" / "._00.png").write_bytes(b"what a Mac leaves behind")
    images = _load(tmp_path)
    assert images.class_names == ("a", "b")
    assert len(images.train_labels) + len(images.test_labels) == 4


def test_what_is_left_out_of_the_class_folders_is_counted_by_its_kind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a", "b"):
        _write(tmp_path / name, 5)
        (tmp_path / name / "IMG_1.HEIC").write_bytes(b"a phone's format")
        (tmp_path / name / ".hidden.heic").write_bytes(b"")
    _write(tmp_path / "a" / "2023", 3)
    (tmp_path / "a" / "README").write_text("notes")
    assert len(_load(tmp_path).train_labels) == 8
    (said,) = caplog.messages
    counted = "2 x .heic, 1 x folder, 1 x no ending"
    assert said.startswith(f"{tmp_path}: left out of the class folders: {counted}; images are .bmp, ")


def test_what_systems_leave_behind_is_no_class_and_no_image(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a", "b"):
        _write(tmp_path / name, 2)
        for file in (".DS_Store", "Thumbs.db", "desktop.ini"):
            (tmp_path / name / file).touch()
            (tmp_path / file).touch()
    (tmp_path / "__MACOSX" / "a").mkdir(parents=True)
    (tmp_path / "__MACOSX" / "a" / "._00.png").touch()
    _write(tmp_path / "@eaDir", 2)
    _write(tmp_path / "a" / "@eaDir", 2)
    images = _load(tmp_path)
    assert images.class_names == ("a", "b")
    assert len(images.train_labels) + len(images.test_labels) == 4
    (said,) = caplog.messages
    assert said == f"{tmp_path}: left out, for a system made it and it is no class: @eaDir, __MACOSX"


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    _write(tmp_path / "a", 2)
    _write(tmp_path / "b", 2)
    (tmp_path / "b" / "01.png").write_bytes(b"no image")
    assert _failure(tmp_path).startswith(f"{tmp_path / 'b' / '01.png'}: cannot be read as an image")


def test_unreadable_images_are_counted_and_ten_of_them_told_one_a_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _write(tmp_path / "a", 4)
    _write(tmp_path / "b", 30)
    for number in range(25):
        (tmp_path / "b" / f"{number:02}.png").write_bytes(b"no image")
    (tmp_path / "a" / "03.png").write_bytes((tmp_path / "a" / "03.png").read_bytes()[:50])
    failure = _failure(tmp_path)
    assert failure.startswith(f"{tmp_path}: 26 of 34 images cannot be used; mend or remove them. ")
    assert failure.count(str(tmp_path / "b" / "00.png")) == 1
    *each, more = caplog.messages
    assert len(each) == 10
    for line in each:
        assert line.count("cannot be read as an image") == line.count(str(tmp_path)) == 1
    assert more == "  and 16 more"


def _damage_exif(file: Path) -> None:
    Image.new("RGB", (4, 2)).save(file, exif=b"Exif\0\0no TIFF header at all")


def test_images_with_damaged_exif_data_are_taken_as_stored_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _write(tmp_path / "a", 3, suffix=".jpg")
    _write(tmp_path / "b", 3, suffix=".jpg")
    for name in ("a/00.jpg", "b/02.jpg"):
        _damage_exif(tmp_path / name)
    images = _load(tmp_path)
    assert len(images.train_labels) + len(images.test_labels) == 6
    said, *each = caplog.messages
    assert said.startswith(f"{tmp_path}: the EXIF data of 2 of 6 images are damaged; these images are taken")
    for line, name in zip(each, ("a/00.jpg", "b/02.jpg"), strict=True):
        assert line.startswith(f"  {tmp_path / name} (")


@pytest.mark.parametrize("size", [1, 28, 128])
def test_images_get_the_size_that_is_asked_for_and_keep_their_shape(tmp_path: Path, size: int) -> None:
    for name in ("a", "b"):
        _write(tmp_path / name, 2)  # 40 and 41 wide, 20 high
    images = load_images(f"folder:{tmp_path}", size=size)
    assert images.train_images.shape == (2, 3, size, size)
    assert (images.train_images[:, 0] == 255).all()


def test_reading_is_told_image_by_image(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    for name in ("a", "b"):
        _write(tmp_path / name, 2)
    load_images(f"folder:{tmp_path}", progress=lambda *step: told.append(step[:3]))
    assert told == [("read images", number, 4) for number in (1, 2, 3, 4)]


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    assert _failure(tmp_path / "none").startswith(f"{tmp_path / 'none'}: cannot be listed (No such file")


def test_a_relative_folder_that_does_not_exist_is_named_with_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = _failure(Path("none"))
    assert said == f"none: cannot be listed (No such file or directory) (looked for in {tmp_path})"


def test_a_folder_of_images_without_classes_is_told_what_to_do(tmp_path: Path) -> None:
    _write(tmp_path, 3)
    assert _failure(tmp_path) == (
        f"{tmp_path}: holds 0 class folders; expected at least 2, each with images. "
        "3 images lie directly in it: make a folder for each class and move them there"
    )


def test_a_single_class_is_refused(tmp_path: Path) -> None:
    _write(tmp_path / "a", 3)
    assert _failure(tmp_path) == (f"{tmp_path}: holds 1 class folder; expected at least 2, each with images")


def test_classes_that_lie_a_folder_too_deep_are_told(tmp_path: Path) -> None:
    for name in ("training/a", "training/b", "validation/a", "validation/b"):
        _write(tmp_path / name, 2)
    failure = _failure(tmp_path)
    assert failure.startswith(f"{tmp_path / 'training'}: holds no images (")
    assert failure.endswith(
        f"), but folders; expected classes in {tmp_path}, or train and test with classes in each"
    )


def test_an_empty_class_is_named(tmp_path: Path) -> None:
    _write(tmp_path / "a", 3)
    (tmp_path / "b").mkdir()
    assert _failure(tmp_path).startswith(f"{tmp_path / 'b'}: holds no images")


def test_a_class_of_one_image_cannot_be_split(tmp_path: Path) -> None:
    _write(tmp_path / "a", 3)
    _write(tmp_path / "b", 1)
    assert _failure(tmp_path).startswith(f"{tmp_path / 'b'}: holds 1 image; expected at least 2")
