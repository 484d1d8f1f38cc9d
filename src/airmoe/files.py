"""Files that are either whole or absent: written under a temporary name in the same folder, then renamed."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; afterwards rename it to ``path``, or remove it on an error.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from airmoe.files import replaced_file
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replaced_file(Path(folder, "notes.txt")) as temporary:
        ...         size = temporary.write_text("whole")
        ...     [path.name for path in Path(folder).iterdir()]
        ['notes.txt']
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
