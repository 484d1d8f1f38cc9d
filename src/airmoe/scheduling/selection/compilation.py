"""Compilation of kernels: cached on disk if a folder can be written, and without the interpreter's lock."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def compiled(function: Kernel) -> Kernel:
    """Compile a function at its first call.

    Numba's cache watches only the file of the outermost kernel, so a kernel must not call another file's.
    """
    try:
        kernel = njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # no cache folder can be written, so each process compiles
        kernel = njit(nogil=True, error_model="numpy")(function)
    return cast(Kernel, kernel)
