"""A lock on a folder to be made: one process at a time works on it, and the lock dies with that process.

While a run folder ``NAME`` is made, ``NAME.partial`` or ``.NAME.making``
stands beside it, and the lock is on ``.NAME.lock``.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from airmoe.errors import InvalidInputError

try:
    import fcntl
except ImportError:  # no Unix: nothing is locked
    fcntl = None  # type: ignore[assignment]

LONGEST_NAME = 255 - len(".partial")
"""The most bytes of a folder's name: file systems allow 255, and the longest name beside it has 8 more."""

_TRIES = 100
"""How often the folders above are made anew where other processes that end remove them."""


def refuse_name(out: Path) -> None:
    """Refuse a folder that has no name of its own, or one beside which longer ones have no room.

    Raises:
        InvalidInputError: it is "." or "/", or longer than `LONGEST_NAME`.
    """
    if not out.name:
        raise InvalidInputError("out", str(out), "a folder that does not exist yet")
    if len(os.fsencode(out.name)) > LONGEST_NAME:
        raise InvalidInputError("out", str(out), f"a folder whose name has at most {LONGEST_NAME} bytes")


@contextlib.contextmanager
def sole_writer(out: Path) -> Iterator[None]:
    """Let nobody else who asks for it make ``out`` until the block ends.

    Folders above ``out`` are made as needed, and removed again if they are left empty.

    Raises:
        InvalidInputError: as of `refuse_name`, or another process is making it.
    """
    refuse_name(out)
    path, made = out.with_name(f".{out.name}.lock"), list[Path]()
    try:
        with _opened_beside(out, path, made) as file:
            _lock(file.fileno(), path, out)
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
    finally:
        for folder in reversed(made):
            with contextlib.suppress(OSError):  # it is not empty, or gone
                folder.rmdir()


def _opened_beside(out: Path, path: Path, made: list[Path]) -> TextIO:
    """Open a file beside ``out``; the folders above that had to be made are added to ``made``."""
    for _ in range(_TRIES):
        with contextlib.suppress(FileNotFoundError):  # whoever made a folder above has removed it since
            for folder in reversed(out.parents):
                if not folder.is_dir():
                    try:
                        folder.mkdir()
                    except FileExistsError:  # another has made it, or it is a file
                        if not stat.S_ISDIR(folder.stat().st_mode):  # one look: it may be gone by the next
                            raise
                    else:
                        made.append(folder)
            try:
                return path.open("a")
            except OSError as error:
                error.filename = str(out)  # which is what the user named
                raise
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


def _lock(descriptor: int, path: Path, out: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever had the lock may have removed the file since it was opened here.
        alone = os.path.samestat(os.fstat(descriptor), path.stat())
    except (BlockingIOError, FileNotFoundError):
        alone = False
    if not alone:
        raise InvalidInputError("out", str(out), "a folder that no other process is making now")
