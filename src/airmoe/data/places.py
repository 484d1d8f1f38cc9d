"""Where the files of official image sets are looked for, and kept."""

import contextlib
import os
from pathlib import Path

from airmoe.errors import InvalidInputError
from airmoe.files import as_path


def cache() -> Path:
    """Return the folder into which sets are downloaded.

    Raises:
        InvalidInputError: there is no home folder.
    """
    return as_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "airmoe"


def places(data_dir: Path | None) -> list[Path]:
    """Return the folders to look in, in order: ``data_dir``, that of ``$AIRMOE_DATA``, and the cache.

    Raises:
        InvalidInputError: ``data_dir`` is not a folder.
    """
    if data_dir is not None and not data_dir.is_dir():
        raise InvalidInputError("data_dir", str(data_dir), "an existing folder")
    named = os.environ.get("AIRMOE_DATA")
    found = [place for place in (data_dir, as_path(named) if named else None) if place is not None]
    with contextlib.suppress(InvalidInputError):  # without a home folder there is no cache
        found.append(cache())
    return found
