"""Fashion-MNIST: its official IDX files, packed or not, and what becomes of damaged ones."""

import functools
import gzip
import hashlib
import http.server
import shutil
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from airmoe.data import fashion, load_images
from airmoe.errors import DataError, InvalidInputError

IMAGES = {"train": 60_000, "t10k": 10_000}


def idx(array: NDArray[np.uint8]) -> bytes:
    """The bytes of an IDX file."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Label = image mod 10, the first pixel = image mod 251, the last one 255; held-out files are packed."""
    folder = tmp_path_factory.mktemp("official") / "fashion-mnist"
    folder.mkdir()
    for part, images in IMAGES.items():
        number_T = np.arange(images)
        pixels_THW = np.zeros((images, 28, 28), np.uint8)
        pixels_THW[:, 0, 0], pixels_THW[:, -1, -1] = number_T % 251, 255
        written = {"images-idx3": pixels_THW, "labels-idx1": (number_T % 10).astype(np.uint8)}
        for name, array in written.items():
            if part == "train":
                (folder / f"{part}-{name}-ubyte").write_bytes(idx(array))
            else:
                (folder / f"{part}-{name}-ubyte.gz").write_bytes(gzip.compress(idx(array), 1))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def linked(official: Path, tmp_path: Path) -> Path:
    """A folder of links to the files; a test may replace one."""
    folder = tmp_path / "data"
    folder.mkdir()
    for file in official.iterdir():
        (folder / file.name).symlink_to(file)
    return folder


@pytest.fixture(autouse=True)
def _nothing_elsewhere(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion, "_DEBIAN", tmp_path / "debian")
    monkeypatch.setattr(fashion, "_URL", "http://127.0.0.1:1/refused/")


def replace(folder: Path, name: str, content: bytes) -> None:
    (folder / name).unlink()
    (folder / name).write_bytes(content)


def test_images_get_a_black_border_of_2_and_keep_their_labels(official: Path) -> None:
    images = load_images("fashion-mnist", data_dir=official)
    assert (images.train_images.shape, images.test_images.shape) == ((60_000, 1, 32, 32), (10_000, 1, 32, 32))
    assert images.train_images.dtype == np.uint8
    number_T = np.arange(60_000)
    np.testing.assert_array_equal(images.train_images[:, 0, 2, 2], number_T % 251)
    np.testing.assert_array_equal(images.train_labels, number_T % 10)
    assert (images.train_images[:, 0, 29, 29] == 255).all()
    border = np.ones((32, 32), bool)
    border[2:30, 2:30] = False
    assert not images.train_images[:, 0, border].any()
    np.testing.assert_array_equal(images.test_labels, np.arange(10_000) % 10)
    assert images.test_labels.dtype == np.int64
    assert len(images.class_names) == 10


@pytest.mark.parametrize("place", ["data_dir", "environment", "cache", "debian"])
def test_every_place_is_searched_for_the_folder(
    official: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    folders = {"data_dir": tmp_path / "here", "environment": tmp_path / "there", "cache": cache}
    folder = folders.get(place)
    if folder is None:
        (tmp_path / "debian").symlink_to(official)
    else:
        folder.mkdir(parents=True)
        (folder / "fashion-mnist").symlink_to(official)
    if place == "environment":
        monkeypatch.setenv("AIRMOE_DATA", str(folder))
    data_dir = folder if place == "data_dir" else None
    assert len(load_images("fashion-mnist", data_dir=data_dir).test_images) == 10_000


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        ("train-labels-idx1-ubyte", lambda content: content[:-1], "has 60007 bytes; expected 60008"),
        (
            "train-labels-idx1-ubyte",
            lambda content: content + b"x",
            "has more than 60008 bytes; expected 60008",
        ),
        ("train-labels-idx1-ubyte", lambda content: b"x" + content[1:], "begins with 780008010000ea60"),
        (
            "train-labels-idx1-ubyte",
            lambda content: content[:-1] + b"\x0a",
            "label 59999 is 10; expected 0 to 9",
        ),
        ("t10k-labels-idx1-ubyte.gz", lambda content: content[:-20], "cannot be read"),
        ("t10k-labels-idx1-ubyte.gz", lambda content: b"no archive", "cannot be read"),
    ],
)
def test_a_damaged_file_is_named(official: Path, linked: Path, name: str, damage, said: str) -> None:  # type: ignore[no-untyped-def]
    replace(linked, name, damage((official / name).read_bytes()))
    with pytest.raises(DataError, match=said):
        load_images("fashion-mnist", data_dir=linked)


def test_a_packed_file_that_is_far_too_large_is_not_read_whole(linked: Path) -> None:
    replace(linked, "t10k-labels-idx1-ubyte.gz", gzip.compress(bytes(200 << 20), 1))
    with pytest.raises(DataError, match="has more than 10008 bytes; expected 10008"):
        load_images("fashion-mnist", data_dir=linked)


def test_a_missing_file_is_not_replaced_by_a_download(linked: Path) -> None:
    (linked / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte: does not exist, nor does .*\.gz"):
        load_images("fashion-mnist", data_dir=linked)


def test_without_files_and_network_it_says_which_files_go_where(cache: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be downloaded.*put train-images-idx3-ubyte,.*into .*airmoe"):
        load_images("fashion-mnist")
    assert not list(cache.glob("*")), "nothing half-written is left"


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"data_dir is .*; expected an existing folder"):
        load_images("fashion-mnist", data_dir=tmp_path / "nowhere")


@pytest.mark.parametrize("right", [True, False])
def test_a_download_is_kept_if_every_file_has_the_official_hash(
    official: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, right: bool
) -> None:
    served = tmp_path / "served"
    served.mkdir()
    known = {}
    for name, (shape, _) in fashion._FILES.items():
        packed = official / f"{name}.gz"
        content = gzip.decompress(packed.read_bytes()) if packed.exists() else (official / name).read_bytes()
        (served / f"{name}.gz").write_bytes(gzip.compress(content, 1))
        known[name] = (shape, hashlib.sha256(content if right else b"").hexdigest())
    monkeypatch.setattr(fashion, "_FILES", known)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(served))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(fashion, "_URL", f"http://127.0.0.1:{server.server_port}/")
        if right:
            load_images("fashion-mnist")
            assert sorted(file.name for file in (cache / "fashion-mnist").iterdir()) == [
                f"{name}.gz" for name in sorted(known)
            ]
        else:
            with pytest.raises(DataError, match=r"has SHA-256 .* unpacked; expected"):
                load_images("fashion-mnist")
            assert not list(cache.glob("*"))
        server.shutdown()
