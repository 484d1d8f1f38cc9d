"""A user's own images: one folder per class."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from airmoe.data.image_file import IMAGE_SUFFIXES, is_greyscale, read_image
from airmoe.data.image_set import ImageSet
from airmoe.data.split import held_out_split
from airmoe.errors import DataError

_SIDE = 32
_HELD_OUT_SHARE = 0.2

FilesByClass = dict[str, list[Path]]


def load_folder(name: str, folder: Path) -> ImageSet:
    """Load a folder of images per class, with ``train`` and ``test`` above the classes or without.

    Args:
        name: name of the image set.
        folder: the folder of the images.

    Raises:
        DataError: a folder has no image or cannot be listed, there are fewer than two classes, a class cannot
            be split, training and test classes differ, or an image cannot be read.
    """
    try:
        train, test = _find_files(folder)
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be listed ({error.strerror})") from error
    all_files = [file for files in (*train.values(), *test.values()) for file in files]
    channels = 1 if all(is_greyscale(file) for file in all_files) else 3
    train_images, train_labels = _read(train, channels)
    test_images, test_labels = _read(test, channels)
    return ImageSet(name, train_images, train_labels, test_images, test_labels, class_names=tuple(train))


def _find_files(folder: Path) -> tuple[FilesByClass, FilesByClass]:
    train_folder, test_folder = folder / "train", folder / "test"
    if not (train_folder.is_dir() and test_folder.is_dir()):
        return _hold_out(_files_by_class(folder))
    train, test = _files_by_class(train_folder), _files_by_class(test_folder)
    if train.keys() != test.keys():
        odd = ", ".join(sorted(train.keys() ^ test.keys()))
        raise DataError(f"{folder}: train and test must hold the same classes; only one of them has {odd}")
    return train, test


def _files_by_class(folder: Path) -> FilesByClass:
    classes = [entry for entry in _visible_entries(folder) if entry.is_dir()]
    if len(classes) < 2:
        raise DataError(
            f"{folder}: holds {len(classes)} class folders; expected at least 2, each with images"
        )
    files_by_class = {}
    for class_folder in classes:
        files = [file for file in _visible_entries(class_folder) if file.suffix.lower() in IMAGE_SUFFIXES]
        if not files:
            raise DataError(f"{class_folder}: holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
        files_by_class[class_folder.name] = files
    return files_by_class


def _visible_entries(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _hold_out(files_by_class: FilesByClass) -> tuple[FilesByClass, FilesByClass]:
    for files in files_by_class.values():
        if len(files) < 2:
            raise DataError(
                f"{files[0].parent}: holds 1 image; expected at least 2, one to train on and one to test"
            )
    train: FilesByClass = {}
    test: FilesByClass = {}
    for class_name, files in files_by_class.items():
        held_out = max(1, round(_HELD_OUT_SHARE * len(files)))
        train_indices, test_indices = held_out_split(
            np.zeros(len(files), dtype=np.int64), np.array([held_out])
        )
        train[class_name] = [files[i] for i in train_indices]
        test[class_name] = [files[i] for i in test_indices]
    return train, test


def _read(files_by_class: FilesByClass, channels: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    images_TCHW = np.stack(
        [read_image(file, channels, _SIDE, _SIDE) for files in files_by_class.values() for file in files]
    )
    labels_T = np.repeat(np.arange(len(files_by_class)), [len(files) for files in files_by_class.values()])
    return images_TCHW, labels_T.astype(np.int64)
