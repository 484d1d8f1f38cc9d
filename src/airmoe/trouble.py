"""What a user is told of an exception: one line for trouble that they can end, nothing for a bug."""

import os
import sys
from collections.abc import Callable

from airmoe.errors import AirmoeError


def line_about(error: BaseException) -> str | None:
    """Return what to tell of an exception, in one line; None for a bug, whose traceback is needed."""
    for kind, tell in _TOLD.items():
        if isinstance(error, kind):
            return " ".join(tell(error).split())
    for module, name, tell in _TOLD_IF_LOADED:
        loaded = getattr(sys.modules.get(module), name, None)
        if loaded is not None and isinstance(error, loaded):
            return " ".join(tell(error).split())
    if isinstance(error, ImportError) and "failed to map segment" in str(error):  # of a large library
        return _memory(error)
    if isinstance(error, RuntimeError) and str(error).startswith("Could not determine home directory"):
        return "there is no home folder; expected one that the environment variable HOME names"
    return None


def _os_error(error: BaseException) -> str:
    assert isinstance(error, OSError)
    file = "a file" if error.filename is None else os.fsdecode(error.filename)
    return f"{file}: {error.strerror or str(error) or type(error).__name__}; expected to be able to use it"


def _memory(error: BaseException) -> str:
    return f"out of memory; expected enough for this command ({error or 'no more is known'})"


_TOLD: dict[type[BaseException], Callable[[BaseException], str]] = {
    AirmoeError: str,
    OSError: _os_error,
    MemoryError: _memory,
}
_TOLD_IF_LOADED: tuple[tuple[str, str, Callable[[BaseException], str]], ...] = (
    ("torch", "OutOfMemoryError", _memory),
    ("safetensors", "SafetensorError", lambda error: f"a safetensors file: {error}"),
    ("zenoh", "ZError", lambda error: f"the mesh: {error}"),
)
"""Exceptions of packages that are not loaded here: module, name, and what is told."""
