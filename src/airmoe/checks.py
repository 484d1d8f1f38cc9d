"""Checks of a caller's values; each raises `InvalidInputError` with the first offending value."""

import math
import operator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from airmoe.errors import InvalidInputError

Number = TypeVar("Number", bound=np.generic)

ROUNDING = 1e-12
"""How far a computed number may lie over an edge, relative to the edge."""


def refuse_type(name: str, value: object, kind: type) -> None:
    """Raise unless `value` is of a type; the error names its own."""
    if not isinstance(value, kind):
        raise InvalidInputError(f"type of {name}", type(value).__name__, kind.__name__)


def integer_at_least(name: str, value: object, minimum: int) -> int:
    """Return `value` as an int; refuse a value that is no integer (a bool is none) or is below `minimum`."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or isinstance(value, bool | np.bool_) or number < minimum:
        raise InvalidInputError(name, value, f"an integer of at least {minimum}")
    return number


def number_within(name: str, value: object, low: float, high: float) -> float:
    """Return `value` as a float; refuse a value that is no number or lies outside [low, high].

    A number that rounding carried over an edge, such as 1 + 2e-16, counts as the edge.
    """
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        number = float(value)
        if low - ROUNDING * abs(low) <= number <= high + ROUNDING * abs(high):
            return min(max(number, low), high)
    raise InvalidInputError(name, value, f"a number from {low:g} to {high:g}")


def positive_number(name: str, value: object) -> float:
    """Return `value` as a float; refuse a value that is no number, not finite, or not above zero."""
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        number = float(value)
        if math.isfinite(number) and number > 0:
            return number
    raise InvalidInputError(name, value, "a finite number above 0")


def real_array(name: str, value: ArrayLike) -> NDArray[np.float64]:
    """Return `value` as a float64 array; refuse ragged lists, text, complex numbers and objects."""
    array = _array(name, value, "an array of real numbers")
    if array.dtype.kind not in "fiub":
        raise InvalidInputError(name, array.dtype.name, "an array of real numbers")
    return array.astype(np.float64, copy=False)


def numbers_within(name: str, value: ArrayLike, low: float, high: float) -> NDArray[np.float64]:
    """Return `value` as a float64 array; refuse what `number_within` refuses, named with its index."""
    array = real_array(name, value)
    inside = (array >= low) & (array <= high)
    if not inside.all():
        near = (array >= low - ROUNDING * abs(low)) & (array <= high + ROUNDING * abs(high))
        refuse_where(name, array, ~near, f"a number from {low:g} to {high:g}")
        array = np.clip(array, low, high)
    return array


def flags(name: str, value: ArrayLike) -> NDArray[np.bool_]:
    """Return `value` as a bool array; refuse another type."""
    array = _array(name, value, "an array of bool")
    if array.dtype != np.bool_:
        raise InvalidInputError(name, array.dtype.name, "an array of bool")
    return array


def indices(name: str, value: ArrayLike, low: int, high: int) -> NDArray[np.int64]:
    """Return `value` as an int64 array; refuse entries that are no integers or lie outside [low, high]."""
    array = _array(name, value, "an array of integers")
    if array.size == 0 and not np.issubdtype(array.dtype, np.integer):
        array = array.astype(np.int64)  # an empty list has no type of its own
    if array.dtype.kind not in "iu":
        raise InvalidInputError(name, array.dtype.name, "an array of integers")
    refuse_where(name, array, (array < low) | (array > high), f"an integer from {low} to {high}")
    return array.astype(np.int64, copy=False)


def read_only(array: NDArray[Number]) -> NDArray[Number]:
    """Return a view of an array that nobody can write to."""
    view = array.view()
    view.flags.writeable = False
    return view


def refuse_where(name: str, array: NDArray[Any], wrong: NDArray[np.bool_], expected: str) -> None:
    """Raise for the first entry of `array` that `wrong` marks; the error names its index and value."""
    if wrong.any():
        index = np.unravel_index(int(np.argmax(wrong)), array.shape)
        place = f"[{', '.join(str(i) for i in index)}]" if index else ""
        raise InvalidInputError(f"{name}{place}", array[index].item(), expected)


def refuse_shape(name: str, array: NDArray[Any], shape: tuple[int, ...], letters: str) -> None:
    """Raise unless `array` has `shape`; `letters` says what the axes are, e.g. "(T, E)"."""
    if array.shape != shape:
        raise InvalidInputError(f"shape of {name}", array.shape, f"{letters} = {shape}")


def _array(name: str, value: ArrayLike, expected: str) -> NDArray[Any]:
    if _is_masked(value):
        raise InvalidInputError(name, "a masked array", f"{expected}, without masked entries")
    try:
        return np.asarray(value)
    except ValueError:
        raise InvalidInputError(name, type(value).__name__, expected) from None


def _is_masked(value: object) -> bool:
    """Return whether an entry is masked, in an array or in a list of arrays; NumPy would drop the mask."""
    if isinstance(value, list | tuple):
        return any(_is_masked(each) for each in value if isinstance(each, list | tuple | np.ma.MaskedArray))
    return isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value)
