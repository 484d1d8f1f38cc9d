"""A folder that is to be made: nothing is overwritten, and one process at a time makes it.

What takes long is made in OUT.partial, where it can be resumed; at its end that folder is renamed to OUT.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from airmoe.errors import InvalidInputError, RunFolderError
from airmoe.files import remove_temporary_files
from airmoe.locks import refuse_name, sole_writer

CONFIG, PROVENANCE, CHECKPOINTS = "config.toml", "run.json", "checkpoint"
"""Names in a run folder: its settings, its record, and what a training is resumed from."""

_NEW = "a folder that does not exist yet"
_UNFINISHED = "an unfinished run: this one is finished; leave out --resume and name another folder"


def partial_of(out: Path) -> Path:
    """Return ``out`` + ".partial", where the run folder lies while it is made.

    Raises:
        InvalidInputError: as of `airmoe.locks.refuse_name`.
    """
    refuse_name(out)
    return out.with_name(out.name + ".partial")


@contextmanager
def whole_folder(out: Path) -> Iterator[None]:
    """Let nobody else make ``out`` until the block ends.

    Raises:
        InvalidInputError: ``out`` exists, or another process is making it.
    """
    _refuse_existing(out)
    with sole_writer(out):
        _refuse_existing(out)  # another process may have finished it since
        yield


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``out``, which becomes ``out`` if the block succeeds, or is removed.

    Raises:
        InvalidInputError: ``out`` exists, or another process is making it.
    """
    with whole_folder(out):
        aside = out.with_name(f".{out.name}.making")
        shutil.rmtree(aside, ignore_errors=True)  # of a process that was killed
        try:
            aside.mkdir()
            yield aside
            aside.rename(out)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def resumable_folder(out: Path, *, resume: bool) -> Iterator[Path]:
    """Let nobody else make ``out`` until the block ends; yield `partial_of` it.

    Raises:
        InvalidInputError: ``out`` exists, another process is making it, or ``resume`` is False and an
            unfinished run of it exists.
        RunFolderError: there is nothing to resume.
    """
    partial = partial_of(out)
    _refuse_unresumable(out, partial, resume)
    with sole_writer(out):
        _refuse_unresumable(out, partial, resume)
        if partial.exists() and not resume:
            raise InvalidInputError("out", str(out), f"no unfinished run; resume {partial} or remove it")
        remove_temporary_files(partial)  # of processes that were killed
        yield partial


def refuse_taken(out: Path, *, resume: bool | None = None) -> None:
    """Refuse a folder that cannot be made, before any work for it begins.

    Args:
        out: the folder.
        resume: as of `resumable_folder`; None for a `whole_folder`.

    Raises:
        InvalidInputError: as of these.
        RunFolderError: as of these.
        OSError: the folder above it cannot be written to.
    """
    with whole_folder(out) if resume is None else resumable_folder(out, resume=resume):
        pass


def _refuse_existing(out: Path) -> None:
    refuse_name(out)
    if out.exists():
        raise InvalidInputError("out", str(out), _NEW)


def _refuse_unresumable(out: Path, partial: Path, resume: bool) -> None:
    if resume and (out / PROVENANCE).exists():
        raise InvalidInputError("out", str(out), _UNFINISHED)
    _refuse_existing(out)
    if resume and not partial.exists():
        raise RunFolderError(f"{partial} does not exist: there is nothing to resume")
