"""What a figure of the study is: settings of its curves, how a curve is measured, drawn and tabulated."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from airmoe.studies.selection.rows import Row, Rows
from airmoe.studies.selection.settings import CurveSettings

Curves = Mapping[str, Any]
"""Curves of one figure by name; all of the figure's class of settings."""


@dataclass(frozen=True)
class Figure:
    """One figure of the study.

    Attributes:
        title: what it shows.
        settings: the class of its curves' settings.
        columns: what is measured, with units.
        measure: yields the rows of one curve and one seed, a row per abscissa.
        draw: returns SVG by the name of the drawing.
        tables: returns Markdown.
        timed: its rows are times, which no second run repeats.
    """

    title: str
    settings: type[CurveSettings]
    columns: tuple[str, ...]
    measure: Callable[[Any, int], Iterator[Row]]
    draw: Callable[[Curves, Rows], dict[str, str]]
    tables: Callable[[Curves, Rows], str]
    timed: bool = False


def label_of(curves: Curves, name: str) -> str:
    """Return what a curve is called in legends and tables."""
    return str(curves[name].label or name)
