"""A user's own images: one folder per class."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from airmoe.data.image_file import is_greyscale, read_with_damage
from airmoe.data.image_set import ImageSet
from airmoe.data.listing import SUFFIXES_TEXT, listed, tell_folders_of_systems, tell_left_out
from airmoe.data.split import held_out_split
from airmoe.errors import DataError
from airmoe.progress import Progress

_HELD_OUT_SHARE = 0.2
_MOST_NAMED = 10

_log = logging.getLogger("airmoe.data")

FilesByClass = dict[str, list[Path]]
Read = TypeVar("Read")


def load_folder(name: str, folder: Path, size: int, progress: Progress) -> ImageSet:
    """Load a folder of images per class, with ``train`` and ``test`` above the classes or without.

    An image with damaged EXIF data is taken as it is stored. The log says how many there are, and names them.
    It also counts what else lies in the class folders and is left out, and names folders beside them that a
    system made, such as ``__MACOSX``; hidden files and those of systems (``Thumbs.db``) are not counted.

    Args:
        name: name of the image set.
        folder: the folder of the images.
        size: height and width that images get, pixels.
        progress: told how many images are read.

    Raises:
        DataError: a folder has no image or cannot be listed, there are fewer than two classes, a class cannot
            be split, training and test classes differ, or images cannot be read: all of these are counted.
    """
    train, test = _find_files(folder)
    files = [file for part in (train, test) for of_class in part.values() for file in of_class]
    images_TCHW = _read(files, folder, size, progress)
    train_labels, test_labels = _labels(train), _labels(test)
    held_out = len(train_labels)
    return ImageSet(
        name, images_TCHW[:held_out], train_labels, images_TCHW[held_out:], test_labels, tuple(train)
    )


def _find_files(folder: Path) -> tuple[FilesByClass, FilesByClass]:
    parts = _train_and_test(folder)
    if parts is None:
        return _hold_out(_files_by_class(folder))
    train, test = map(_files_by_class, parts)
    if train.keys() != test.keys():
        odd = ", ".join(sorted(train.keys() ^ test.keys()))
        raise DataError(f"{folder}: train and test must hold the same classes; only one of them has {odd}")
    return train, test


def _train_and_test(folder: Path) -> tuple[Path, Path] | None:
    """Return the folders ``train`` and ``test``, also as ``Train`` and ``Test``, where both are there."""
    by_name = {entry.name.lower(): entry for entry in reversed(listed(folder).folders)}
    by_name |= {name: folder / name for name in by_name if (folder / name).is_dir()}
    return (by_name["train"], by_name["test"]) if {"train", "test"} <= by_name.keys() else None


def _files_by_class(folder: Path) -> FilesByClass:
    found = listed(folder)
    tell_folders_of_systems(folder, found.of_systems, "it is no class")
    if len(found.folders) < 2:
        raise DataError(_too_few_classes(folder, len(found.folders), len(found.images)))
    files_by_class, left_out = {}, list[Path]()
    for class_folder in found.folders:
        of_class = listed(class_folder)
        if not of_class.images:
            told = f"{class_folder}: holds no images ({SUFFIXES_TEXT})"
            if of_class.folders:
                told += f", but folders; expected classes in {folder}, or train and test with classes in each"
            raise DataError(told)
        files_by_class[class_folder.name] = of_class.images
        left_out += of_class.folders + of_class.others
    tell_left_out(folder, left_out, "left out of the class folders")
    return files_by_class


def _too_few_classes(folder: Path, classes: int, images: int) -> str:
    holds = "1 class folder" if classes == 1 else f"{classes} class folders"
    told = f"{folder}: holds {holds}; expected at least 2, each with images"
    if images:
        lie = "1 image lies" if images == 1 else f"{images} images lie"
        told += f". {lie} directly in it: make a folder for each class and move them there"
    return told


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


def _read(files: Sequence[Path], folder: Path, size: int, progress: Progress) -> NDArray[np.uint8]:
    unreadable: list[str] = []
    greyscale = [_told(unreadable, is_greyscale, file) for file in files]
    channels = 1 if all(grey is not False for grey in greyscale) else 3
    images_TCHW = np.empty((len(files), channels, size, size), np.uint8)
    as_stored: list[str] = []
    for number, (file, grey) in enumerate(zip(files, greyscale, strict=True)):
        if grey is None:
            continue
        read = _told(unreadable, read_with_damage, file, channels, size, size)
        if read is not None:
            images_TCHW[number], damage = read
            if damage:
                as_stored.append(f"{file} ({damage})")
        progress("read images", number + 1, len(files))
    if len(unreadable) == 1:
        raise DataError(unreadable[0])
    if unreadable:
        _tell_each(unreadable)
        raise DataError(
            f"{folder}: {len(unreadable)} of {len(files)} images cannot be used; mend or remove them. "
            f"The log names them; the first: {unreadable[0]}"
        )
    if as_stored:
        told = "%s: the EXIF data of %d of %d images are damaged; these images are taken as they are stored:"
        _log.warning(told, folder, len(as_stored), len(files))
        _tell_each(as_stored)
    return images_TCHW


def _told(unreadable: list[str], read: Callable[..., Read], *arguments: object) -> Read | None:
    """Return what was read; None if that fails, and then ``unreadable`` is told why."""
    try:
        return read(*arguments)
    except DataError as error:
        unreadable.append(str(error))
        return None


def _tell_each(lines: list[str]) -> None:
    """Say each of a few lines in the log, and how many more there are."""
    for line in lines[:_MOST_NAMED]:
        _log.warning("  %s", line)
    if len(lines) > _MOST_NAMED:
        _log.warning("  and %d more", len(lines) - _MOST_NAMED)


def _labels(files_by_class: FilesByClass) -> NDArray[np.int64]:
    counts = [len(files) for files in files_by_class.values()]
    return np.repeat(np.arange(len(counts), dtype=np.int64), counts)
