"""Files that are either whole or absent: written under a temporary name in the same folder, then renamed.

What is written down of a command or a setting names no user; see `with_short_home` and `portable`.
"""

import errno
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from airmoe.errors import InvalidInputError

_TEMPORARY = ".airmoe-"
"""How the names of temporary files begin; the names of the files themselves may be as long as can be."""

AnyPath = str | os.PathLike[str]
"""How users name a file or a folder."""


def as_path(path: AnyPath) -> Path:
    """Return a path as users name it, with ``~`` for the home folder.

    Raises:
        InvalidInputError: there is no home folder of that name.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise InvalidInputError("path", os.fspath(path), "one under a home folder that exists") from None


def sought_in(path: Path) -> str:
    """Return, for the end of an error, where a relative path was looked for; nothing for an absolute one."""
    return "" if path.is_absolute() else f" (looked for in {Path.cwd()})"


@contextmanager
def named_in_errors(path: AnyPath) -> Iterator[None]:
    """Let an error of writing be an OSError that names its file; that of a full disk names none by itself."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = os.fspath(path)
        raise
    except Exception as error:
        told = re.search(r"\(os error (\d+)\)", str(error))  # how libraries written in Rust say it
        if told is None:
            raise
        raise OSError(int(told[1]), os.strerror(int(told[1])), os.fspath(path)) from None


@contextmanager
def replaced_file(path: Path, mode: int = 0o644) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; afterwards rename it to ``path``, or remove it on an error.

    Args:
        path: of the file.
        mode: who may read and write it.

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
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=_TEMPORARY)
    os.close(handle)
    temporary = Path(name)
    try:
        with named_in_errors(path):
            yield temporary
            with temporary.open("rb+") as written:
                os.fsync(written.fileno())
            temporary.chmod(mode)
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_temporary_files(folder: Path) -> None:
    """Remove what `replaced_file` left in a folder and below it when its process was killed."""
    for path in folder.rglob(f"{_TEMPORARY}*"):
        path.unlink(missing_ok=True)


def with_short_home(text: str) -> str:
    """Return a text in which every path in the home folder begins with "~", as airmoe reads it back."""
    try:
        home = str(Path.home())
    except RuntimeError:  # there is none
        return text
    if home == Path(home).anchor:
        return text
    return re.sub(rf"(?<![\w/.~-]){re.escape(home)}(?![\w.-])", "~", text)


def portable(word: str) -> str:
    """Return a word of a command without what is of this machine alone.

    A path in the home folder begins with "~"; of another absolute path only the last part is left.

    Examples:
        >>> from airmoe.files import portable
        >>> portable("folder:/srv/ada/photos"), portable("runs/photos")
        ('folder:photos', 'runs/photos')
    """
    return re.sub(r"(^|[:=])/.*/(?=[^/])", r"\1", with_short_home(word), count=1)


def read_toml_text(path: Path, called: str = "config") -> str:
    """Return the text of a TOML file; ``called`` names the option that it comes from.

    Raises:
        InvalidInputError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")  # Windows writes a mark at the beginning
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(called, str(path), f"a readable TOML file ({error})") from None


def write_secret(path: Path, secret: bytes) -> None:
    """Write a new file that its owner alone can read."""
    with (
        named_in_errors(path),
        os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file,
    ):
        file.write(secret)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file; an error names it."""
    with named_in_errors(path):
        path.write_bytes(data)


def read_regular(path: Path, most: int = -1) -> bytes:
    """Return the bytes of a file, at most so many; nothing waits for a pipe, or reads a device without end.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    # A pipe would wait for whoever writes to it.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        reason = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        raise OSError(reason, "it is no regular file", str(path))
    with os.fdopen(descriptor, "rb") as file:
        return file.read(most)
