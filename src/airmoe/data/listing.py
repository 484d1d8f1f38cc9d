"""Which entries of a user's folders are images, in training and in asking, and what is said of the others."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from airmoe.errors import DataError
from airmoe.files import sought_in

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
)
SUFFIXES_TEXT = ", ".join(sorted(IMAGE_SUFFIXES))

_FOLDERS_OF_SYSTEMS = frozenset(
    {"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"}
)
_FILES_OF_SYSTEMS = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini"})
"""What systems and their archives put among the entries of a user, in small letters."""

_MOST_KINDS = 20

_log = logging.getLogger("airmoe.data")


@dataclass(frozen=True)
class Listed:
    """What lies in a folder, sorted by name; hidden entries and files of systems do not count.

    Attributes:
        folders: those of the user.
        of_systems: folders that a system made, such as ``__MACOSX``.
        images: files with an ending of `IMAGE_SUFFIXES`.
        others: all other files.
    """

    folders: list[Path]
    of_systems: list[Path]
    images: list[Path]
    others: list[Path]


def listed(folder: Path) -> Listed:
    """Return what lies in a folder.

    Raises:
        DataError: it cannot be listed.
    """
    found = Listed([], [], [], [])
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror}){sought_in(folder)}") from error
    for entry in entries:
        name = entry.name.lower()
        if entry.is_dir():
            (found.of_systems if name in _FOLDERS_OF_SYSTEMS else found.folders).append(entry)
        elif entry.suffix.lower() in IMAGE_SUFFIXES:
            found.images.append(entry)
        elif name not in _FILES_OF_SYSTEMS:
            found.others.append(entry)
    return found


def images_below(folder: Path) -> Iterator[Path]:
    """Yield the images in a folder at any depth; the log says at the end what was left out.

    Raises:
        DataError: a folder cannot be listed, or there is no image.
    """
    left_out, of_systems, any_image = list[Path](), list[Path](), False
    waiting = [folder]
    while waiting:
        found = listed(waiting.pop())
        left_out += found.others
        of_systems += found.of_systems
        any_image = any_image or bool(found.images)
        yield from found.images
        waiting += [below for below in reversed(found.folders) if not below.is_symlink()]  # for circles
    tell_folders_of_systems(folder, of_systems, "it holds no image of yours")
    tell_left_out(folder, left_out)
    if not any_image:
        raise DataError(f"{folder}: holds no images ({SUFFIXES_TEXT})")


def tell_folders_of_systems(folder: Path, of_systems: Iterable[Path], why: str) -> None:
    """Say in the log which folders were left out because a system made them."""
    if names := sorted({entry.name for entry in of_systems}):
        _log.warning("%s: left out, for a system made it and %s: %s", folder, why, ", ".join(names))


def tell_left_out(folder: Path, entries: Iterable[Path], told: str = "left out") -> None:
    """Say in the log how many entries of each kind were left out; ``told`` begins the sentence."""
    kinds = Counter(_kind(entry) for entry in entries)
    if kinds:
        counts = ", ".join(f"{count} x {kind}" for kind, count in kinds.most_common(_MOST_KINDS))
        _log.warning("%s: %s: %s; images are %s", folder, told, counts, SUFFIXES_TEXT)


def _kind(entry: Path) -> str:
    return "folder" if entry.is_dir() else entry.suffix.lower() or "no ending"
