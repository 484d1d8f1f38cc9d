"""Records with named fields of known types, such as settings and manifests; a wrong value gets a sentence."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from airmoe.errors import InvalidInputError, did_you_mean

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
            raise refusal(error, model=type(self)) from None

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


def refusal(
    error: ValidationError, called: Callable[[str], str] = str, model: type[BaseModel] | None = None
) -> InvalidInputError:
    """Return the first of pydantic's complaints as ours.

    Args:
        error: what a model raised.
        called: what a key such as "radio.seed" is called.
        model: the model, so that a key that is near an unknown one can be named.
    """
    first = error.errors()[0]
    context = first.get("ctx", {})
    cause = context.get("error")
    if isinstance(cause, InvalidInputError):
        return cause
    key = ".".join(map(str, first["loc"]))
    value = None if first["type"] == "missing" else first["input"]
    said = str(cause) if cause else EXPECTED.get(first["type"], "another value").format(**context)
    if first["type"] == "literal_error":
        said += did_you_mean(value, re.findall("'(.*?)'", said))
    if first["type"] == "extra_forbidden" and model is not None:
        said += did_you_mean(first["loc"][-1], _keys_at(model, first["loc"][:-1]))
    return InvalidInputError(called(key), value, said)


def _keys_at(model: type[BaseModel], place: Sequence[int | str]) -> Iterable[str]:
    """Return the keys of a model, or of the one within it that a place of pydantic's leads to."""
    for step in place:
        if isinstance(step, str):  # not the number of an item in a list
            inner = _model_in(model.model_fields[step].annotation) if step in model.model_fields else None
            if inner is None:
                return ()
            model = inner
    return model.model_fields


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model that a field holds, or holds a list of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for each in get_args(annotation) if (model := _model_in(each))), None)
