"""How kernels are compiled: cached on disk where a folder can be written, without the interpreter's lock."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def compiled(function: Kernel) -> Kernel:
    """Compile a function at its first call.

    Numba's cache watches only the file of the outermost kernel, so a kernel calls none of other files.
    """
    try:
        kernel = njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # neither this folder nor the user's cache can be written: compile in each process
        kernel = njit(nogil=True, error_model="numpy")(function)
    return cast(Kernel, kernel)
