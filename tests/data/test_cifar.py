import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from airmoe.data import ImageSet, cifar, load_images
from airmoe.errors import DataError, InvalidInputError
from tests.data import cifar_files


@pytest.fixture(autouse=True)
def _no_download(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offline = replace(cifar.CIFAR_SETS["cifar10"], url="http://127.0.0.1:1/refused.tar.gz")
    monkeypatch.setitem(cifar.CIFAR_SETS, "cifar10", offline)


def _damaged(official_tree: Path, folder: Path, name: str, content: bytes) -> Path:
    cifar_files.link_tree(official_tree, folder, without=name)
    (folder / name).write_bytes(content)
    return folder


def test_batches_become_50000_training_and_10000_test_images(official_tree: Path) -> None:
    images = load_images("cifar10", data_dir=official_tree)
    assert images.train_images.shape == (50_000, 3, 32, 32)
    assert images.test_images.shape == (10_000, 3, 32, 32)
    assert images.train_images.dtype == images.test_images.dtype == np.uint8
    assert images.train_labels.dtype == images.test_labels.dtype == np.int64
    assert images.class_names == cifar_files.CLASS_NAMES


def test_records_keep_their_order_label_and_pixel_layout(official_tree: Path) -> None:
    images = load_images("cifar10", data_dir=official_tree)
    for batch, record in ((1, 0), (3, 17), (5, 9_999)):
        at = (batch - 1) * 10_000 + record
        assert images.train_labels[at] == record % 10
        assert (images.train_images[at, 0] == batch).all(), "red comes first"
        assert (images.train_images[at, 1] == 0).all()
        assert images.train_images[at, 2, 31, 31] == record % 251, "the last byte is blue, bottom right"
    assert (images.test_images[:, 0] == 6).all()


def _is_complete(images: ImageSet) -> bool:
    return len(images.train_labels) == 50_000


def test_data_dir_may_hold_the_folder_of_the_archive(official_tree: Path) -> None:
    assert _is_complete(load_images("cifar10", data_dir=official_tree.parent))


def test_airmoe_data_names_a_folder_to_look_in(official_tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRMOE_DATA", str(official_tree.parent))
    assert _is_complete(load_images("cifar10"))


def test_the_cache_is_looked_in(official_tree: Path, cache: Path) -> None:
    cifar_files.link_tree(official_tree, cache / cifar_files.FOLDER)
    assert _is_complete(load_images("cifar10"))


def test_data_dir_comes_before_airmoe_data_and_that_before_the_cache(
    official_tree: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reported_file(data_dir: Path | None) -> str:
        with pytest.raises(DataError) as caught:
            load_images("cifar10", data_dir=data_dir)
        return str(caught.value).partition(":")[0]

    given, named = tmp_path / "given", tmp_path / "named"
    for folder in (given, named, cache):
        _damaged(official_tree, folder, "data_batch_1.bin", b"short")
    monkeypatch.setenv("AIRMOE_DATA", str(named))
    assert reported_file(given) == str(given / "data_batch_1.bin")
    assert reported_file(None) == str(named / "data_batch_1.bin")
    monkeypatch.delenv("AIRMOE_DATA")
    assert reported_file(None) == str(cache / "data_batch_1.bin")


@pytest.mark.parametrize("records", [9_999.5, 9_999, 10_001])
def test_a_batch_of_another_length_is_named_with_both_sizes(
    official_tree: Path, tmp_path: Path, records: float
) -> None:
    size = int(records * 3073)
    folder = _damaged(official_tree, tmp_path / "data", "data_batch_4.bin", b"")
    os.truncate(folder / "data_batch_4.bin", size)
    with pytest.raises(DataError, match=rf"data_batch_4\.bin: has {size} bytes; expected 30730000"):
        load_images("cifar10", data_dir=folder)


def test_a_label_above_9_is_named_with_its_record(official_tree: Path, tmp_path: Path) -> None:
    batch = bytearray((official_tree / "test_batch.bin").read_bytes())
    batch[3073 * 123] = 10
    folder = _damaged(official_tree, tmp_path / "data", "test_batch.bin", bytes(batch))
    with pytest.raises(DataError, match=r"test_batch\.bin: record 123 has label 10; expected 0 to 9"):
        load_images("cifar10", data_dir=folder)


@pytest.mark.parametrize("name", cifar_files.FILES)
def test_a_missing_file_is_named_and_not_replaced_by_a_download(
    official_tree: Path, tmp_path: Path, name: str
) -> None:
    folder = cifar_files.link_tree(official_tree, tmp_path / "data", without=name)
    with pytest.raises(DataError) as caught:
        load_images("cifar10", data_dir=folder)
    assert str(caught.value).startswith(f"{folder / name}: cannot be read")


@pytest.mark.parametrize(
    ("content", "problem"), [(b"cat\ndog\n", "holds 2 class names"), (b"\xff", "cannot be read")]
)
def test_damaged_class_names_are_reported(
    official_tree: Path, tmp_path: Path, content: bytes, problem: str
) -> None:
    folder = _damaged(official_tree, tmp_path / "data", "batches.meta.txt", content)
    with pytest.raises(DataError, match=rf"batches\.meta\.txt: {problem}"):
        load_images("cifar10", data_dir=folder)


def test_a_data_dir_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"data_dir is .*typo.*; expected an existing folder"):
        load_images("cifar10", data_dir=tmp_path / "typo")
