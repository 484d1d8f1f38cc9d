"""The run folder of a demonstration: it is whole, or it is not there."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from airmoe.newfolder import whole_folder


@contextlib.contextmanager
def new_run_folder(out: Path) -> Iterator[Path]:
    """Yield a path beside ``out`` for the run folder; it becomes ``out`` if the block succeeds.

    Folders above ``out`` are made as needed, and removed again if the block fails.

    Raises:
        InvalidInputError: ``out`` exists, or another process is making it.
    """
    with (
        whole_folder(out),
        tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as scratch,
    ):
        run = Path(scratch) / "run"
        yield run
        run.rename(out)
