"""CIFAR-100: what its layout has of its own; all else is shared with CIFAR-10 and tested there."""

import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from airmoe.data import cifar, load_images
from airmoe.errors import DataError

FOLDER = "cifar-100-binary"
RECORDS = {"train.bin": 50_000, "test.bin": 10_000}
CLASS_NAMES = tuple(f"fine_{label}" for label in range(100))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Coarse label = record mod 20, fine label = record mod 100, red = 7, last blue byte = record mod 251."""
    folder = tmp_path_factory.mktemp("official") / FOLDER
    folder.mkdir()
    for name, records in RECORDS.items():
        number_T = np.arange(records)
        records_TB = np.zeros((records, 3074), dtype=np.uint8)
        records_TB[:, 0], records_TB[:, 1], records_TB[:, -1] = number_T % 20, number_T % 100, number_T % 251
        records_TB[:, 2 : 2 + 1024] = 7
        records_TB.tofile(folder / name)
    (folder / "fine_label_names.txt").write_text("\n".join(CLASS_NAMES) + "\n")
    (folder / "coarse_label_names.txt").write_text("\n".join(f"coarse_{label}" for label in range(20)) + "\n")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def _no_download(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(url: str, *_: object, **__: object) -> None:
        raise DataError(f"{url} cannot be downloaded: refused")

    monkeypatch.setattr(cifar, "download", refused)


def _linked(tree: Path, folder: Path, *, without: str) -> Path:
    folder.mkdir()
    for file in tree.iterdir():
        if file.name != without:
            (folder / file.name).symlink_to(file)
    return folder


def test_the_files_become_50000_training_and_10000_test_images_of_100_classes(tree: Path) -> None:
    images = load_images("cifar100", data_dir=tree)
    assert images.name == "cifar100"
    assert images.train_images.shape == (50_000, 3, 32, 32)
    assert images.test_images.shape == (10_000, 3, 32, 32)
    assert images.train_images.dtype == np.uint8
    assert images.train_labels.dtype == np.int64
    assert images.class_names == CLASS_NAMES


def test_the_fine_label_is_the_class_and_pixels_begin_behind_both_labels(tree: Path) -> None:
    images = load_images("cifar100", data_dir=tree.parent)
    for record in (0, 57, 49_999):
        assert images.train_labels[record] == record % 100
        assert (images.train_images[record, 0] == 7).all(), "red comes first"
        assert images.train_images[record, 1, 0, 0] == 0
        assert images.train_images[record, 2, 31, 31] == record % 251, "the last byte is blue, bottom right"
    assert images.test_labels[:101].tolist() == [*range(100), 0]


def test_a_fine_label_above_99_is_named_with_its_record(tree: Path, tmp_path: Path) -> None:
    folder = _linked(tree, tmp_path / "data", without="test.bin")
    records = bytearray((tree / "test.bin").read_bytes())
    records[3074 * 123 + 1] = 100
    (folder / "test.bin").write_bytes(records)
    with pytest.raises(DataError, match=r"test\.bin: record 123 has label 100; expected 0 to 99"):
        load_images("cifar100", data_dir=folder)


def test_a_file_of_another_length_is_named_with_both_sizes(tree: Path, tmp_path: Path) -> None:
    folder = _linked(tree, tmp_path / "data", without="train.bin")
    (folder / "train.bin").write_bytes(bytes(3073))
    expected = r"train\.bin: has 3073 bytes; expected 153700000 \(50000 records of 3074\)"
    with pytest.raises(DataError, match=expected):
        load_images("cifar100", data_dir=folder)


def test_a_number_of_class_names_other_than_100_is_reported(tree: Path, tmp_path: Path) -> None:
    folder = _linked(tree, tmp_path / "data", without="fine_label_names.txt")
    (folder / "fine_label_names.txt").symlink_to(tree / "coarse_label_names.txt")
    with pytest.raises(DataError, match=r"fine_label_names\.txt: holds 20 class names; expected 100"):
        load_images("cifar100", data_dir=folder)


def test_coarse_names_are_not_needed(tree: Path, tmp_path: Path) -> None:
    folder = _linked(tree, tmp_path / "data", without="coarse_label_names.txt")
    assert load_images("cifar100", data_dir=folder).class_names == CLASS_NAMES


def test_the_archive_is_the_official_one_and_is_unpacked_into_a_folder_of_its_own(
    tree: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []

    def deliver(url: str, target: Path, *, sha256: str, **_: object) -> None:
        asked.append((url, sha256))
        with tarfile.open(target, "w:gz", compresslevel=1) as tar:
            tar.add(tree, arcname=FOLDER)

    monkeypatch.setattr(cifar, "download", deliver)
    for _ in range(2):
        assert len(load_images("cifar100").test_labels) == 10_000
    assert asked == [
        (
            "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
            "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        )
    ]
    assert [entry.name for entry in cache.iterdir()] == [FOLDER], "the archive is not kept"


def test_without_a_network_the_message_says_which_files_to_put_where(cache: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_images("cifar100")
    for part in (
        "cifar100: https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz cannot be downloaded",
        "put train.bin, test.bin and fine_label_names.txt (from cifar-100-binary.tar.gz)",
        f"into {cache / FOLDER}",
    ):
        assert part in str(caught.value)


def test_the_folder_of_the_other_set_is_not_taken_for_it(tree: Path) -> None:
    with pytest.raises(DataError, match=r"cifar10: .*cannot be downloaded"):
        load_images("cifar10", data_dir=tree)
