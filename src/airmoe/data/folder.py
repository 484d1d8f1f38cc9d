"""A user's own images: one folder per class."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from airmoe.data.image_file import IMAGE_SUFFIXES, is_greyscale, read_with_damage
from airmoe.data.image_set import ImageSet
from airmoe.data.split import held_out_split
from airmoe.errors import DataError
from airmoe.files import sought_in
from airmoe.progress import Progress

_HELD_OUT_SHARE = 0.2
_MOST_NAMED = 20

_OF_SYSTEMS = frozenset({"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"})
"""Folders that systems and their archives put among those of a user, in small letters."""

_log = logging.getLogger("airmoe.data")

FilesByClass = dict[str, list[Path]]
Read = TypeVar("Read")


def load_folder(name: str, folder: Path, size: int, progress: Progress) -> ImageSet:
    """Load a folder of images per class, with ``train`` and ``test`` above the classes or without.

    An image with damaged EXIF data is taken as it is stored. The log says how many there are, and names them.
    It also counts what else lies in the class folders and is left out, and names folders beside them that a
    system made, such as ``__MACOSX``; hidden files are not counted.

    Args:
        name: name of the image set.
        folder: the folder of the images.
        size: height and width that images get, pixels.
        progress: told how many images are read.

    Raises:
        DataError: a folder has no image or cannot be listed, there are fewer than two classes, a class cannot
            be split, training and test classes differ, or images cannot be read: all of these are counted.
    """
    try:
        train, test = _find_files(folder)
    except OSError as error:
        where = sought_in(Path(error.filename))
        raise DataError(f"{error.filename}: cannot be listed ({error.strerror}){where}") from error
    files = [file for part in (train, test) for of_class in part.values() for file in of_class]
    images_TCHW = _read(files, folder, size, progress)
    train_labels, test_labels = _labels(train), _labels(test)
    held_out = len(train_labels)
    return ImageSet(
        name, images_TCHW[:held_out], train_labels, images_TCHW[held_out:], test_labels, tuple(train)
    )


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
    folders = [entry for entry in _visible_entries(folder) if entry.is_dir()]
    classes = [entry for entry in folders if entry.name.lower() not in _OF_SYSTEMS]
    if others := [entry.name for entry in folders if entry not in classes]:
        _log.warning("%s: left out, for a system made it and it is no class: %s", folder, ", ".join(others))
    if len(classes) < 2:
        raise DataError(
            f"{folder}: holds {len(classes)} class folders; expected at least 2, each with images"
        )
    files_by_class, left_out = {}, Counter[str]()
    for class_folder in classes:
        entries = _visible_entries(class_folder)
        files = [file for file in entries if file.suffix.lower() in IMAGE_SUFFIXES]
        if not files:
            raise DataError(f"{class_folder}: holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
        files_by_class[class_folder.name] = files
        left_out.update(_kind(entry) for entry in entries if entry not in files)
    if left_out:
        _log.warning(
            "%s: %d entries of the class folders are left out; images are %s: %s",
            folder,
            left_out.total(),
            ", ".join(sorted(IMAGE_SUFFIXES)),
            ", ".join(f"{count} x {kind}" for kind, count in left_out.most_common(_MOST_NAMED)),
        )
    return files_by_class


def _kind(entry: Path) -> str:
    return "folder" if entry.is_dir() else entry.suffix.lower() or "no ending"


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
        raise DataError(
            f"{folder}: {len(unreadable)} of {len(files)} images cannot be used; mend or remove them: "
            f"{_named(unreadable)}"
        )
    if as_stored:
        _log.warning(
            "%s: the EXIF data of %d of %d images are damaged; these images are taken as they are stored: %s",
            folder,
            len(as_stored),
            len(files),
            _named(as_stored),
        )
    return images_TCHW


def _told(unreadable: list[str], read: Callable[..., Read], *arguments: object) -> Read | None:
    """Return what was read; None if that fails, and then ``unreadable`` is told why."""
    try:
        return read(*arguments)
    except DataError as error:
        unreadable.append(str(error))
        return None


def _named(words: list[str]) -> str:
    further = len(words) - _MOST_NAMED
    return "; ".join(words[:_MOST_NAMED]) + (f"; and {further} more" if further > 0 else "")


def _labels(files_by_class: FilesByClass) -> NDArray[np.int64]:
    counts = [len(files) for files in files_by_class.values()]
    return np.repeat(np.arange(len(counts), dtype=np.int64), counts)
