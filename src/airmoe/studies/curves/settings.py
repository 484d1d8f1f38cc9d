"""Settings of curves: a TOML per curve that says what differs from the defaults; unknown keys are errors."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from airmoe.errors import InvalidInputError

Scale = str
"""How much is measured."""

USUAL_SCALES: tuple[Scale, ...] = ("full", "quick", "smoke")
"""All of it, enough to see each curve's shape, or just that everything runs."""

Count = Annotated[int, Field(ge=1, le=100_000)]
Share = Annotated[float, Field(ge=0, le=1)]
Experts = Annotated[int, Field(ge=1, le=64)]
Decibels = Annotated[float, Field(ge=-100, le=100)]
Seeds = Annotated[int, Field(ge=1, le=1000)]
# A TOML has arrays, not tuples.
Values = Annotated[tuple[int | float, ...], Field(strict=False, min_length=1, max_length=1000)]


class CurveSettings(BaseModel):
    """One curve: one parameter is swept over values, and each value is measured with several seeds.

    Attributes:
        SCALES: defaults of this figure by scale, where they differ.
        SWEPT_IS_X: whether what is swept is the abscissa of the figure, so that all of its curves sweep it.
        label: its name in legends and tables; left out, the name of its file.
        seeds: how many seeds, counted from the one that the command is given.
        swept: the setting that is swept.
        values: what it is set to.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    SCALES: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    SWEPT_IS_X: ClassVar[bool] = False

    label: Annotated[str, Field(max_length=60)] = ""
    seeds: Seeds = 5
    swept: str = ""
    values: Values = (0,)

    def at(self, value: float) -> Self:
        """Return the same curve at one value of what is swept; raises `ValidationError` if it is not one."""
        return self.model_validate(self.model_dump() | {self.swept: value})

    @property
    def x_values(self) -> Sequence[float]:
        """The abscissae, one row of results each, for every seed."""
        return self.values


Settings = TypeVar("Settings", bound=CurveSettings)


def read_curves(
    model: type[Settings],
    folder: Path,
    figure: str,
    scale: Scale,
    scales: Sequence[Scale] = USUAL_SCALES,
) -> dict[str, Settings]:
    """Return the curves of one figure by the name of their files, in alphabetical order.

    What applies, later before earlier: the model's defaults, the model's for this scale, the file, and the
    table of the file that is named like the scale, which is one of ``scales``.

    Raises:
        InvalidInputError: no such file, not TOML, an unknown key, a value out of range, or a curve that does
            not sweep the abscissa of the others.
    """
    files = sorted((folder / figure).glob("*.toml"))
    if not files:
        raise InvalidInputError("settings", str(folder / figure), "a folder with a TOML file per curve")
    curves = {path.stem: _read_curve(model, path, f"{figure}/{path.name}", scale, scales) for path in files}
    first = next(iter(curves.values())).swept
    for name, curve in curves.items():
        if model.SWEPT_IS_X and curve.swept != first:
            expected = f"{first}, as in other curves"
            raise InvalidInputError(f"{figure}/{name}.toml: swept", curve.swept, expected)
    return curves


def dump_curve(curve: CurveSettings) -> str:
    """Return a curve with all its values as TOML that `read_curves` reads back to the same at any scale."""
    # JSON escapes as TOML does, but for the delete character.
    rows = (f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in curve.model_dump().items())
    return "\n".join(rows).replace("\x7f", "\\u007f") + "\n"


def _read_curve(
    model: type[Settings], path: Path, origin: str, scale: Scale, scales: Sequence[Scale]
) -> Settings:
    try:
        written = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError("settings", str(path), f"a readable TOML file ({error})") from None
    except (ValueError, RecursionError) as error:  # not TOML, or nested beyond what Python reads
        raise InvalidInputError(origin, str(error), "valid TOML") from None
    own = {name: written.pop(name, {}) for name in scales}
    for name, table in own.items():
        if not isinstance(table, dict):
            raise InvalidInputError(f"{origin}: {name}", table, "a table of settings")
    # All scales are checked, whichever is asked for.
    curves = {
        name: _checked(model, {**model.SCALES.get(name, {}), **written, **own[name]}, origin)
        for name in scales
    }
    return curves[scale]


def _checked(model: type[Settings], values: dict[str, Any], origin: str) -> Settings:
    try:
        curve = model.model_validate(values)
        for value in curve.values:
            curve.at(value)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        given = None if first["type"] == "missing" else first["input"] if key else "a curve"
        kinds = {"missing": "a value", "extra_forbidden": "a known key"}
        said = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
        expected = kinds.get(first["type"], said)
        raise InvalidInputError(f"{origin}: {key}" if key else origin, given, expected) from None
    return curve
