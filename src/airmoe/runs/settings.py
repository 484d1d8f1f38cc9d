"""The settings of a run: TOML read into pydantic models.

An unknown key is an error; an absent one has its default, which may be None.
"""

import tomllib
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, TypeVar

import tomli_w
from pydantic import AfterValidator, Field, ValidationError

from airmoe.checks import refuse_type
from airmoe.errors import InvalidInputError
from airmoe.parts import Parts
from airmoe.records import Record, refusal

Positive = Annotated[int, Field(ge=1, le=10**6)]
LearningRate = Annotated[float, Field(gt=0, le=1e30)]
Weight = Annotated[float, Field(ge=0, le=10**6)]
Parsed = TypeVar("Parsed", bound="Section")


class Section(Record):
    """A part of a configuration."""

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Show what is not the default."""
        fields = type(self).model_fields
        for name, value in super().__repr_args__():
            if (
                name is None
                or name not in fields
                or value != fields[name].get_default(call_default_factory=True)
            ):
                yield name, value


def expected_by(error: InvalidInputError, text: str) -> str:
    """Return what was expected of a text, or of a part of it."""
    return error.expected if error.value == text else f"{error.name} to be {error.expected}"


def readable_by(read: Callable[[str], object]) -> AfterValidator:
    """Return a check that a text can be read, by a function that raises `InvalidInputError` if not."""

    def check(text: str) -> str:
        try:
            read(text)
        except InvalidInputError as error:
            raise ValueError(expected_by(error, text)) from None
        return text

    return AfterValidator(check)


def named_in(known: Parts[Any], *built_in: str) -> AfterValidator:
    """Return a check that a name is one of a few of airmoe's parts, or one that a plugin brings."""

    def check(name: str) -> str:
        if name not in built_in and (name in known.built_in or name not in known):
            names = *built_in, *known.own
            raise ValueError(known.expected(name, names, f"one of {', '.join(names)}"))
        return name

    return AfterValidator(check)


def parse_section(model: type[Parsed], text: str, origin: str) -> Parsed:
    """Return the settings in a TOML text; ``origin`` names it in errors.

    Raises:
        InvalidInputError: not TOML, an unknown key, or a value out of range.
    """
    try:
        return model.model_validate(tomllib.loads(text))
    except ValidationError as error:
        found = refusal(error, lambda key: f"{origin}: {key}", model)
        if not found.name.startswith(origin):  # a complaint about several keys names none of pydantic's
            found = InvalidInputError(f"{origin}: {found.name}", found.value, found.expected)
        raise found from None
    except (ValueError, RecursionError) as error:  # not TOML, or nested or long beyond what Python reads
        raise InvalidInputError(origin, str(error), "valid TOML") from None


def changed(settings: Parsed, values: Mapping[str, object], said_by: Mapping[str, str]) -> Parsed:
    """Return settings with some values changed.

    Args:
        settings: those to start from; they stay as they are.
        values: by key, such as "seed" or "data.name"; None changes nothing.
        said_by: by key, the name that errors give it, such as the option that it comes from.

    Raises:
        InvalidInputError: a value out of range.
    """
    sections = settings.model_dump()
    for key, value in values.items():
        if value is not None:
            *path, last = key.split(".")
            section: dict[str, Any] = sections
            for name in path:
                section = section[name]
            section[last] = value
    try:
        return type(settings).model_validate(sections)
    except ValidationError as error:
        raise refusal(error, lambda key: said_by.get(key, key)) from None


def dump_config(config: Section) -> str:
    """Return settings as TOML from which `parse_section` reads equal ones. A value of None gets no key.

    Raises:
        InvalidInputError: no settings.
    """
    refuse_type("config", config, Section)
    return tomli_w.dumps(config.model_dump(exclude_none=True))
