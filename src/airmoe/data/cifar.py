"""CIFAR in its official binary layout: found in a folder, or downloaded once into the user's cache.

A record begins with its labels, one byte each. 3072 bytes of pixels follow: 1024 red, 1024 green and 1024
blue ones, row by row.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from airmoe.data.download import download, extract
from airmoe.data.image_set import ImageSet
from airmoe.data.places import cache, places
from airmoe.errors import DataError
from airmoe.progress import Progress

TRAIN_RECORDS, TEST_RECORDS = 50_000, 10_000
PIXEL_BYTES = 3072

_MAX_NAMES_BYTES = 4096
_MAX_ARCHIVE_BYTES = 200_000_000


@dataclass(frozen=True)
class CifarSet:
    """One of the CIFAR sets: the address of its archive, and the layout of its files.

    Attributes:
        name: the name by which `airmoe.data.load_images` knows the set.
        url: address of the archive.
        sha256: hash of the archive.
        folder: the folder in the archive that holds the files.
        train_files: files of the 50,000 training records, equally many in each.
        test_file: file of the 10,000 held-out records.
        names_file: file of the class names, one a line.
        classes: number of classes.
        labels: label bytes before the pixels; the last one is the class.
    """

    name: str
    url: str
    sha256: str
    folder: str
    train_files: tuple[str, ...]
    test_file: str
    names_file: str
    classes: int
    labels: int

    @property
    def record_bytes(self) -> int:
        """The size of a record in bytes."""
        return self.labels + PIXEL_BYTES

    @property
    def records(self) -> dict[str, int]:
        """The number of records of each file."""
        each = TRAIN_RECORDS // len(self.train_files)
        return dict.fromkeys(self.train_files, each) | {self.test_file: TEST_RECORDS}

    @property
    def file_names(self) -> str:
        """The names of all files, as a phrase."""
        train = " to ".join(dict.fromkeys((self.train_files[0], self.train_files[-1])))
        return f"{train}, {self.test_file} and {self.names_file}"


CIFAR_SETS = {
    cifar.name: cifar
    for cifar in (
        CifarSet(
            name="cifar10",
            url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            folder="cifar-10-batches-bin",
            train_files=tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
            test_file="test_batch.bin",
            names_file="batches.meta.txt",
            classes=10,
            labels=1,
        ),
        CifarSet(
            name="cifar100",
            url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
            sha256="58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
            folder="cifar-100-binary",
            train_files=("train.bin",),
            test_file="test.bin",
            names_file="fine_label_names.txt",
            classes=100,
            labels=2,
        ),
    )
}
"""The sets by name. A record of CIFAR-100 has a coarse and a fine label; the fine one is the class."""


def load_cifar(cifar: CifarSet, data_dir: Path | None, progress: Progress) -> ImageSet:
    """Load 50,000 training and 10,000 held-out images, uint8 3x32x32.

    Args:
        cifar: the set, one of `CIFAR_SETS`.
        data_dir: the first folder to look in, before ``$AIRMOE_DATA`` and the cache.
        progress: called as in `airmoe.data.load_images`.

    Raises:
        InvalidInputError: ``data_dir`` is not a folder.
        DataError: a file is missing or damaged, or the download failed.
    """
    folder = _find(cifar, places(data_dir)) or _download_into(cache(), cifar, progress)
    class_names = _read_class_names(folder / cifar.names_file, cifar.classes)
    train = [_read_records(folder / name, cifar) for name in cifar.train_files]
    test_images, test_labels = _read_records(folder / cifar.test_file, cifar)
    return ImageSet(
        name=cifar.name,
        train_images=np.concatenate([images_TCHW for images_TCHW, _ in train]),
        train_labels=np.concatenate([labels_T for _, labels_T in train]),
        test_images=test_images,
        test_labels=test_labels,
        class_names=class_names,
    )


def _find(cifar: CifarSet, among: list[Path]) -> Path | None:
    for place in among:
        for folder in (place, place / cifar.folder):
            if _holds_records(folder, cifar):
                return folder
    return None


def _holds_records(folder: Path, cifar: CifarSet) -> bool:
    # One file is enough: an incomplete copy is reported, and not silently replaced by a download.
    try:
        return any((folder / name).is_file() for name in cifar.records)
    except OSError as error:
        raise DataError(f"{folder}: cannot be searched ({error.strerror})") from error


def _download_into(place: Path, cifar: CifarSet, progress: Progress) -> Path:
    folder = place / cifar.folder
    member_bytes = {
        f"{cifar.folder}/{name}": records * cifar.record_bytes for name, records in cifar.records.items()
    }
    member_bytes[f"{cifar.folder}/{cifar.names_file}"] = _MAX_NAMES_BYTES
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place, prefix=f".{cifar.folder}.") as temporary:
            archive, unpacked = Path(temporary) / Path(cifar.url).name, Path(temporary) / cifar.folder
            download(cifar.url, archive, sha256=cifar.sha256, max_bytes=_MAX_ARCHIVE_BYTES, progress=progress)
            unpacked.mkdir()
            extract(archive, member_bytes, unpacked)
            if not _holds_records(folder, cifar):  # else another process was faster
                unpacked.replace(folder)
    except (DataError, OSError) as error:
        files = f"{cifar.file_names} (from {Path(cifar.url).name})"
        raise DataError(
            f"{cifar.name}: {error}. To go on without a download, put {files} into {folder}, "
            "or into a folder that --data-dir or AIRMOE_DATA names"
        ) from error
    return folder


def _read_class_names(file: Path, classes: int) -> tuple[str, ...]:
    try:
        class_names = tuple(file.read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{file}: cannot be read ({error}); expected the names of {classes} classes"
        ) from error
    if len(class_names) != classes:
        raise DataError(f"{file}: holds {len(class_names)} class names; expected {classes}")
    return class_names


def _read_records(file: Path, cifar: CifarSet) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    records = cifar.records[file.name]
    expected_bytes = records * cifar.record_bytes
    try:
        content = np.fromfile(file, dtype=np.uint8)
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error}); expected {expected_bytes} bytes") from error
    if content.size != expected_bytes:
        raise DataError(
            f"{file}: has {content.size} bytes; "
            f"expected {expected_bytes} ({records} records of {cifar.record_bytes})"
        )
    records_TB = content.reshape(records, cifar.record_bytes)
    labels_T = records_TB[:, cifar.labels - 1].astype(np.int64)
    if labels_T.max() >= cifar.classes:
        record = int(np.argmax(labels_T >= cifar.classes))
        raise DataError(
            f"{file}: record {record} has label {labels_T[record]}; expected 0 to {cifar.classes - 1}"
        )
    return records_TB[:, cifar.labels :].reshape(-1, 3, 32, 32), labels_T
