"""Compilation of kernels: cached on disk where that works, and without the interpreter's lock."""

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit
from numba.core.caching import FunctionCache

Kernel = TypeVar("Kernel", bound=Callable[..., Any])

_FunctionCache: Any = FunctionCache  # some versions of Numba annotate it in part


def compiled(function: Kernel) -> Kernel:
    """Compile a function at its first call.

    Numba's cache watches only the file of the outermost kernel, so a kernel must not call another file's.
    Where the cache cannot be read or written, each process compiles.
    """
    kernel: Any = njit(nogil=True, error_model="numpy")(function)
    with contextlib.suppress(RuntimeError, OSError):  # no folder can be written
        kernel._cache = _Cache(function)
    return cast(Kernel, kernel)


class _Cache(_FunctionCache):  # type: ignore[misc]
    """Numba's cache of a function, whose troubles cost a compilation and nothing else."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # a damaged file raises whatever its bytes happen to mean
            with contextlib.suppress(OSError):
                self.flush()  # the next process finds a whole one
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with contextlib.suppress(OSError):  # a full disk
            super().save_overload(sig, data)
