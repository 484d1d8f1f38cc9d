"""The run folder of a demonstration: it is whole, or it is not there."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from airmoe.newfolder import whole_folder


@contextlib.contextmanager
def new_run_folder(out: Path) -> Iterator[Path]:
    """Yield a path for the run folder, in a folder beside ``out``; it becomes ``out`` if the block succeeds.

    Folders above ``out`` are made as needed, and removed again if the block fails.

    Raises:
        InvalidInputError: as of `airmoe.newfolder.whole_folder`.
    """
    with whole_folder(out):
        scratch = out.with_name(f".{out.name}.making")
        shutil.rmtree(scratch, ignore_errors=True)  # of a process that was killed
        scratch.mkdir()
        try:
            yield scratch / "run"
            (scratch / "run").rename(out)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
