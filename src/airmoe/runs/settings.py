"""The settings of a run: TOML read into pydantic models; unknown keys are errors."""

import json
import tomllib
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from airmoe.errors import InvalidInputError

Positive = Annotated[int, Field(ge=1, le=10**6)]
LearningRate = Annotated[float, Field(gt=0, le=1e30)]
Weight = Annotated[float, Field(ge=0, le=10**6)]
Parsed = TypeVar("Parsed", bound="Section")


class Section(BaseModel):
    """A part of a configuration; unknown keys are errors, and so are values of another type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def parse_section(model: type[Parsed], text: str, origin: str) -> Parsed:
    """Return the settings in a TOML text; ``origin`` names it in errors.

    Raises:
        InvalidInputError: not TOML, an unknown key, or a value out of range.
    """
    try:
        return model.model_validate(tomllib.loads(text))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        unknown = first["type"] == "extra_forbidden"
        said = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
        expected = "a known key" if unknown else said
        raise InvalidInputError(f"{origin}: {key}", first["input"], expected) from None
    except (ValueError, RecursionError) as error:  # not TOML, or nested or long beyond what Python reads
        raise InvalidInputError(origin, str(error), "valid TOML") from None


def read_settings(path: Path) -> str:
    """Return the text of a TOML file.

    Raises:
        InvalidInputError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError("config", str(path), f"a readable TOML file ({error})") from None


def dump_config(config: Section) -> str:
    """Return a configuration as TOML that `parse_section` reads back to the same."""
    sections = config.model_dump()
    lines = [f"{key} = {_toml(value)}" for key, value in sections.items() if not isinstance(value, dict)]
    for name, section in sections.items():
        if isinstance(section, dict):
            lines += ["", f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in section.items())]
    return "\n".join(lines) + "\n"


def _toml(value: str | float) -> str:
    if isinstance(value, str):
        # JSON escapes as TOML does, but for the delete character.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value).lower() if isinstance(value, bool) else repr(value)
