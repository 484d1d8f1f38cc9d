from pathlib import Path

import pytest

from airmoe.data.listing import images_below
from airmoe.errors import DataError


def _touched(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def test_images_are_found_at_any_depth_in_order_of_name(tmp_path: Path) -> None:
    names = ["b.jpg", "z.PNG", "a/c.tif", "a/deep/d.webp", "e/f.gif"]
    _touched(*(tmp_path / name for name in names))
    assert [str(file.relative_to(tmp_path)) for file in images_below(tmp_path)] == names


def test_what_systems_made_and_what_is_hidden_is_not_asked_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    of_systems = ["__MACOSX/x.jpg", "a/@eaDir/x.jpg", ".hidden/x.jpg", "a/._x.jpg", "a/Thumbs.db"]
    _touched(*(tmp_path / name for name in ["a/x.jpg", *of_systems]))
    assert list(images_below(tmp_path)) == [tmp_path / "a" / "x.jpg"]
    (said,) = caplog.messages
    told = "left out, for a system made it and it holds no image of yours: @eaDir, __MACOSX"
    assert said == f"{tmp_path}: {told}"


def test_other_files_are_counted_by_their_kind(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _touched(*(tmp_path / name for name in ("x.jpg", "1.HEIC", "a/2.heic", "a/notes.txt")))
    assert list(images_below(tmp_path)) == [tmp_path / "x.jpg"]
    (said,) = caplog.messages
    assert said.startswith(f"{tmp_path}: left out: 2 x .heic, 1 x .txt; images are .bmp, ")


def test_a_folder_that_leads_back_to_itself_is_looked_into_once(tmp_path: Path) -> None:
    _touched(tmp_path / "a" / "x.jpg")
    (tmp_path / "a" / "back").symlink_to(tmp_path)
    assert list(images_below(tmp_path)) == [tmp_path / "a" / "x.jpg"]


def test_a_folder_without_images_is_refused_and_says_what_it_holds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _touched(tmp_path / "1.heic")
    with pytest.raises(DataError, match=r"holds no images \(\.bmp, "):
        list(images_below(tmp_path))
    assert caplog.messages[0].startswith(f"{tmp_path}: left out: 1 x .heic; ")
