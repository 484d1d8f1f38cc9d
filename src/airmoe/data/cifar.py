"""CIFAR-10 in its official binary layout: found in a folder, or downloaded once into the user's cache.

A record is one label byte, then 3072 bytes: 1024 red, 1024 green and 1024 blue, row by row.
"""

import os
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from airmoe.data.download import Progress, download, extract
from airmoe.data.image_set import ImageSet
from airmoe.errors import DataError, InvalidInputError

CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR10_SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"

_FOLDER_NAME = "cifar-10-batches-bin"
_TRAIN_FILES = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
_TEST_FILE = "test_batch.bin"
_NAMES_FILE = "batches.meta.txt"
_CLASSES = 10
_RECORDS = 10_000
_RECORD_BYTES = 3073
_BATCH_BYTES = _RECORDS * _RECORD_BYTES
_MAX_NAMES_BYTES = 4096
_MAX_ARCHIVE_BYTES = 200_000_000


def load_cifar10(data_dir: Path | None, progress: Progress | None) -> ImageSet:
    """Load 50,000 training and 10,000 held-out images, uint8 3x32x32.

    Args:
        data_dir: the first folder to look in, before ``$AIRMOE_DATA`` and the cache.
        progress: as `airmoe.data.load_images`.

    Raises:
        InvalidInputError: ``data_dir`` is not a folder.
        DataError: a file is missing or damaged, or the download failed.
    """
    if data_dir is not None and not data_dir.is_dir():
        raise InvalidInputError("data_dir", str(data_dir), "an existing folder")
    folder = _find(data_dir) or _download_into(_cache(), progress)
    class_names = _read_class_names(folder / _NAMES_FILE)
    train = [_read_batch(folder / name) for name in _TRAIN_FILES]
    test_images, test_labels = _read_batch(folder / _TEST_FILE)
    return ImageSet(
        name="cifar10",
        train_images=np.concatenate([images_TCHW for images_TCHW, _ in train]),
        train_labels=np.concatenate([labels_T for _, labels_T in train]),
        test_images=test_images,
        test_labels=test_labels,
        class_names=class_names,
    )


def _find(data_dir: Path | None) -> Path | None:
    named = os.environ.get("AIRMOE_DATA")
    places = [data_dir, Path(named) if named else None, _cache()]
    for place in places:
        if place is None:
            continue
        for folder in (place, place / _FOLDER_NAME):
            if _holds_batches(folder):
                return folder
    return None


def _holds_batches(folder: Path) -> bool:
    # One is enough: a copy that lacks files is reported, not silently replaced by a download.
    try:
        return any((folder / name).is_file() for name in (*_TRAIN_FILES, _TEST_FILE))
    except OSError as error:
        raise DataError(f"{folder}: cannot be searched ({error.strerror})") from error


def _cache() -> Path:
    named = os.environ.get("XDG_CACHE_HOME")
    return (Path(named) if named else Path.home() / ".cache") / "airmoe"


def _download_into(cache: Path, progress: Progress | None) -> Path:
    folder = cache / _FOLDER_NAME
    member_bytes = {f"{_FOLDER_NAME}/{name}": _BATCH_BYTES for name in (*_TRAIN_FILES, _TEST_FILE)}
    member_bytes[f"{_FOLDER_NAME}/{_NAMES_FILE}"] = _MAX_NAMES_BYTES
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=f".{_FOLDER_NAME}.") as temporary:
            archive, unpacked = Path(temporary) / Path(CIFAR10_URL).name, Path(temporary) / _FOLDER_NAME
            download(
                CIFAR10_URL, archive, sha256=CIFAR10_SHA256, max_bytes=_MAX_ARCHIVE_BYTES, progress=progress
            )
            unpacked.mkdir()
            extract(archive, member_bytes, unpacked)
            if not _holds_batches(folder):  # else another process was faster
                unpacked.replace(folder)
    except (DataError, OSError) as error:
        files = f"{_TRAIN_FILES[0]} to {_TRAIN_FILES[-1]}, {_TEST_FILE} and {_NAMES_FILE}"
        raise DataError(
            f"cifar10: {error}. To go on without a download, put {files} (from {Path(CIFAR10_URL).name}) "
            f"into {folder}, or into a folder that --data-dir or AIRMOE_DATA names"
        ) from error
    return folder


def _read_class_names(file: Path) -> tuple[str, ...]:
    try:
        class_names = tuple(file.read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{file}: cannot be read ({error}); expected the names of {_CLASSES} classes"
        ) from error
    if len(class_names) != _CLASSES:
        raise DataError(f"{file}: holds {len(class_names)} class names; expected {_CLASSES}")
    return class_names


def _read_batch(file: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    try:
        content = np.fromfile(file, dtype=np.uint8)
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error}); expected {_BATCH_BYTES} bytes") from error
    if content.size != _BATCH_BYTES:
        raise DataError(
            f"{file}: has {content.size} bytes; "
            f"expected {_BATCH_BYTES} ({_RECORDS} records of {_RECORD_BYTES})"
        )
    records_TB = content.reshape(_RECORDS, _RECORD_BYTES)
    labels_T = records_TB[:, 0].astype(np.int64)
    if labels_T.max() >= _CLASSES:
        record = int(np.argmax(labels_T >= _CLASSES))
        raise DataError(f"{file}: record {record} has label {labels_T[record]}; expected 0 to {_CLASSES - 1}")
    return records_TB[:, 1:].reshape(-1, 3, 32, 32), labels_T
