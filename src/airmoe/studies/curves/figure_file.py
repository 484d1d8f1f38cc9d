"""The file of a figure: its heading, settings of all of its curves, and a table for each curve.

title = "Time to schedule a layer"    the heading: see `Heading`
kind = "run_time"
number = 8
x_axis = { label = "nodes", log = true }
tokens = 512                          settings of all curves
[smoke]                               settings of all curves at one scale
tokens = 64
[curves.fast]                         a curve: its settings override those of all
bound = "fast"
[curves.fast.smoke]                   its settings at one scale
seeds = 1
"""

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from airmoe.errors import InvalidInputError, did_you_mean, one_of
from airmoe.files import read_toml_text
from airmoe.records import refusal
from airmoe.studies.curves.figure import Curves, Figure, FigureKind, Heading
from airmoe.studies.curves.settings import CurveSettings, Scale

Table = dict[str, Any]

CURVE_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
"""The name of a curve is the name of its file of rows."""


def read_heading(path: Path, kinds: Mapping[str, FigureKind], scales: Sequence[Scale]) -> Heading:
    """Return the heading of a figure's file.

    Args:
        path: NAME.toml.
        kinds: those of the study, by name.
        scales: those of the study.

    Raises:
        InvalidInputError: no such file, not TOML, or a key of the heading is wrong.
    """
    return _heading(_read(path), path.name, kinds, scales)


def read_figure(
    path: Path, kinds: Mapping[str, FigureKind], scales: Sequence[Scale], scale: Scale | None
) -> Figure:
    """Return a figure as its file describes it.

    Each of these overrides those before it: defaults of the settings, those for this scale, the file's
    settings of all curves, those for this scale, the curve's own, its own for this scale. All scales of the
    figure are checked, whichever is asked for.

    Args:
        path: NAME.toml.
        kinds: those of the study, by name.
        scales: those of the study.
        scale: one of the figure's; None is its first.

    Raises:
        InvalidInputError: no such file, not TOML, an unknown key, a value out of range, no curves, or a curve
            that does not sweep the abscissa of the others.
    """
    written, origin = _read(path), path.name
    heading = _heading(written, origin, kinds, scales)
    model = kinds[heading.kind].settings
    shared = {key: value for key, value in written.items() if key not in (*Heading.model_fields, "curves")}
    shared_at = _by_scale(shared, origin, heading.scales)
    names = *Heading.model_fields, *model.model_fields, *heading.scales, "curves"
    for key, value in [item for table in (shared, *shared_at.values()) for item in table.items()]:
        if key not in model.model_fields:
            raise InvalidInputError(f"{origin}: {key}", value, f"a known key{did_you_mean(key, names)}")
    of_scale: dict[Scale, dict[str, CurveSettings]] = {name: {} for name in heading.scales}
    for name, table in _curve_tables(written, origin).items():
        own = dict(table)
        own_at = _by_scale(own, f"{origin}: curves.{name}", heading.scales)
        for at in heading.scales:
            layers = [model.SCALES.get(at, {}), shared, shared_at[at], own, own_at[at]]
            of_scale[at][name] = _curve(model, layers, origin, name)
    for curves in of_scale.values():
        _refuse_other_abscissae(model, curves, origin)
    return Figure(path.stem, heading, of_scale[heading.scales[0] if scale is None else scale])


def dump_figure(figure: Figure) -> str:
    """Return a figure as TOML with every value; `read_figure` reads back the same figure at any scale."""
    curves = {name: curve.model_dump() for name, curve in figure.curves.items()}
    first = next(iter(curves.values()))
    shared = {
        key: value
        for key, value in first.items()
        if key != "label" and all(curve[key] == value for curve in curves.values())
    }
    own = {
        name: {key: value for key, value in curve.items() if key not in shared}
        for name, curve in curves.items()
    }
    return tomli_w.dumps(figure.heading.model_dump(exclude_none=True) | shared | {"curves": own})


def _read(path: Path) -> Table:
    text = read_toml_text(path, "settings")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # not TOML, or nested beyond what Python reads
        raise InvalidInputError(path.name, str(error), "valid TOML") from None


def _heading(
    written: Table, origin: str, kinds: Mapping[str, FigureKind], scales: Sequence[Scale]
) -> Heading:
    try:
        heading = Heading.model_validate(
            {key: written[key] for key in Heading.model_fields if key in written}
        )
    except ValidationError as error:
        raise _refused(error, lambda key: origin) from None
    if heading.kind not in kinds:
        raise InvalidInputError(f"{origin}: kind", heading.kind, one_of(heading.kind, kinds))
    for scale in heading.scales:
        if scale not in scales:
            raise InvalidInputError(
                f"{origin}: scales", scale, f"some of {', '.join(scales)}{did_you_mean(scale, scales)}"
            )
    return heading


def _curve_tables(written: Table, origin: str) -> dict[str, Table]:
    tables = written.get("curves")
    if not isinstance(tables, dict) or not tables:
        raise InvalidInputError(f"{origin}: curves", tables, "a table [curves.NAME] for each curve")
    for name, table in tables.items():
        if not CURVE_NAME.fullmatch(name):
            raise InvalidInputError(f"{origin}: curve", name, "a name of letters, digits, _ and -")
        if not isinstance(table, dict):
            raise InvalidInputError(f"{origin}: curves.{name}", table, "a table of settings")
    return tables


def _by_scale(settings: Table, origin: str, scales: Sequence[Scale]) -> dict[Scale, Table]:
    """Take the tables of scales out of settings; return one for each scale."""
    found = {scale: settings.pop(scale, {}) for scale in scales}
    for scale, table in found.items():
        if not isinstance(table, dict):
            raise InvalidInputError(f"{origin}: {scale}", table, "a table of settings")
    return found


def _curve(
    model: type[CurveSettings], layers: Sequence[Mapping[str, Any]], origin: str, name: str
) -> CurveSettings:
    """Return a curve; an error names its table, or only the file if the wrong key is one of all curves."""
    *defaults, own, own_at = layers
    values = {key: value for layer in layers for key, value in layer.items()}

    def place(key: str) -> str:
        of_all = any(key in layer for layer in defaults) and key not in own and key not in own_at
        return origin if of_all else f"{origin}: curves.{name}"

    try:
        curve = model.model_validate(values)
    except ValidationError as error:
        raise _refused(error, place) from None
    try:
        for value in curve.values:
            curve.at(value)
    except ValidationError as error:
        raise _refused(error, lambda key: place("values")) from None
    return curve


def _refused(error: ValidationError, place: Callable[[str], str]) -> InvalidInputError:
    """Return an error that names the first wrong key and what was expected, at the place of the key."""

    def called(key: str) -> str:
        origin = place(key.partition(".")[0])
        return f"{origin}: {key}" if key else origin

    found = refusal(error, called)
    if error.errors()[0]["loc"]:
        return found
    return InvalidInputError(found.name, "a curve", found.expected)  # its values do not fit each other


def _refuse_other_abscissae(model: type[CurveSettings], curves: Curves, origin: str) -> None:
    first = next(iter(curves.values())).swept
    for name, curve in curves.items():
        if model.SWEPT_IS_X and curve.swept != first:
            expected = f"{first}, as in other curves"
            raise InvalidInputError(f"{origin}: curves.{name}: swept", curve.swept, expected)
