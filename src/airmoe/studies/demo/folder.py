"""The run folder of a demonstration: whole at the end, or never there."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def new_run_folder(out: Path) -> Iterator[Path]:
    """Yield where to make a run folder beside ``out``; it becomes ``out`` if the block succeeds.

    Folders above ``out`` are made as needed; if nothing comes of it they are removed again.
    """
    made = [folder for folder in out.parents if not folder.exists()]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as scratch:
            run = Path(scratch) / "run"
            yield run
            run.rename(out)
    finally:
        for folder in made:
            with contextlib.suppress(OSError):  # it is not empty
                folder.rmdir()
