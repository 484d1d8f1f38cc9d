"""Records with named fields of known types, such as settings and manifests; a wrong value gets a sentence."""

from collections.abc import Callable
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from airmoe.errors import InvalidInputError

EXPECTED = {
    "missing": "a value",
    "extra_forbidden": "a known key",
    "none_required": "nothing",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "an integer",
    "int_parsing": "an integer",
    "int_from_float": "an integer",
    "int_parsing_size": "an integer",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "greater_than": "a number above {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "a number below {lt}",
    "less_than_equal": "at most {le}",
    "string_type": "a text",
    "string_too_short": "a text of at least {min_length} characters",
    "string_too_long": "a text of at most {max_length} characters",
    "string_pattern_mismatch": "a text that matches {pattern}",
    "literal_error": "{expected}",
    "list_type": "a list",
    "tuple_type": "a list",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "json_invalid": "valid JSON",
}
"""What is said to be expected, by pydantic's name of the error; braces take a value of its context."""


class Record(BaseModel):
    """A record: unknown keys and values of another type are errors; a scalar of NumPy is like one of Python.

    Raises:
        InvalidInputError: a value is wrong; it names the field, the value and what was expected.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise refusal(error) from None

    # Pydantic calls an __init__ for each record within another one, unless told that it adds no checks. It
    # would then not know the names of the outer fields.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @field_validator("*", mode="before")
    @classmethod
    def _without_numpy(cls, value: object) -> object:
        return _plain(value)


def _plain(value: object) -> object:
    """Return a value with Python's scalars in place of NumPy's, also in lists."""
    if isinstance(value, np.generic):
        return value.item()
    if type(value) in (list, tuple):
        assert isinstance(value, list | tuple)
        return type(value)(_plain(each) for each in value)
    return value


def refusal(error: ValidationError, called: Callable[[str], str] = str) -> InvalidInputError:
    """Return the first of pydantic's complaints as ours.

    Args:
        error: what a model raised.
        called: what a key such as "radio.seed" is called.
    """
    first = error.errors()[0]
    context = first.get("ctx", {})
    cause = context.get("error")
    if isinstance(cause, InvalidInputError):
        return cause
    key = ".".join(map(str, first["loc"]))
    value = None if first["type"] == "missing" else first["input"]
    said = str(cause) if cause else EXPECTED.get(first["type"], "another value").format(**context)
    return InvalidInputError(called(key), value, said)
