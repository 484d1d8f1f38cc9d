"""Compilation of kernels: cached on disk where that works, and without the interpreter's lock."""

import contextlib
import logging
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, cast

from numba import njit
from numba.core.caching import FunctionCache, NullCache

Kernel = TypeVar("Kernel", bound=Callable[..., Any])

_FunctionCache: Any = FunctionCache  # some versions of Numba annotate these in part
_NullCache: Any = NullCache


def compiled(function: Kernel) -> Kernel:
    """Compile a function at its first call.

    Numba's cache watches only the file of the outermost kernel, so a kernel must not call another file's.
    Where the cache cannot be read or written, each process compiles. The first compilation of a process is
    logged, as a warning: it takes seconds, and a script would seem to hang.
    """
    kernel: Any = njit(nogil=True, error_model="numpy")(function)
    try:
        kernel._cache = _Cache(function)
    except (RuntimeError, OSError):  # no folder can be written
        kernel._cache = _NoCache()
    return cast(Kernel, kernel)


class _Cache(_FunctionCache):  # type: ignore[misc]
    """Numba's cache of a function, whose troubles cost a compilation and nothing else."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        found = None
        try:
            found = super().load_overload(sig, target_context)
        except Exception:  # a damaged file raises whatever its bytes happen to mean
            with contextlib.suppress(OSError):
                self.flush()  # the next process finds a whole one
        if found is None:
            _tell_once("later processes load it from a cache")
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        with contextlib.suppress(OSError):  # a full disk
            super().save_overload(sig, data)


class _NoCache(_NullCache):  # type: ignore[misc]
    """No cache: every process compiles."""

    def load_overload(self, sig: Any, target_context: Any) -> None:
        _tell_once("no folder for a cache can be written, so every process does")


@cache
def _tell_once(later: str) -> None:
    logging.getLogger("airmoe").warning("compiling the expert search, which takes some seconds; %s", later)
