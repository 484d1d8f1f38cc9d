"""A lock on a folder to be made: one process at a time works on it, and the lock dies with that process."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from airmoe.errors import InvalidInputError

try:
    import fcntl
except ImportError:  # no Unix: nothing is locked
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def sole_writer(out: Path) -> Iterator[None]:
    """Let nobody else who asks for it make ``out`` until the block ends.

    Folders above ``out`` are made as needed, and removed again if they are left empty.

    Raises:
        InvalidInputError: another process is making it, or it has no name of its own, as "." and "/".
    """
    if not out.name:
        raise InvalidInputError("out", str(out), "a folder that does not exist yet")
    made = [folder for folder in out.parents if not folder.exists()]
    path = out.with_name(f".{out.name}.lock")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with _opened(path, out) as file:
            _lock(file.fileno(), path, out)
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
    finally:
        for folder in made:
            with contextlib.suppress(OSError):  # it is not empty
                folder.rmdir()


def _opened(path: Path, out: Path) -> TextIO:
    try:
        return path.open("a")
    except OSError as error:
        error.filename = str(out)  # which is what the user named
        raise


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
