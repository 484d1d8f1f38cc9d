"""What a figure of a study is: settings of its curves, how a curve is measured, drawn and tabulated."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airmoe.studies.curves.rows import Row, Rows
from airmoe.studies.curves.settings import CurveSettings, Scale

Curves = Mapping[str, Any]
"""Curves of one figure by name; all of the figure's class of settings."""

Say = Callable[[str, int, int], None]
"""(what is being measured, steps done, steps in all)."""


@dataclass(frozen=True)
class Workspace:
    """Where curves of a study keep what is costly to make, such as trained models, and share it.

    Attributes:
        folder: exists; what lies there is found by later curves of all figures and by a resumed run, so
            write each file whole (`airmoe.files.replaced_file`) under a name that says what it was made of.
        say: told about progress of what is made on the way.
        options: the study's own options of the command, such as the folder of the data, by name.
    """

    folder: Path
    say: Say
    options: Mapping[str, str]


Measure = Callable[[Any, int, Workspace], Iterator[Row]]
"""Yields the rows of one curve (its settings) and one seed, a row per abscissa."""


@dataclass(frozen=True)
class Figure:
    """One figure of a study.

    Attributes:
        title: what it shows.
        settings: the class of its curves' settings.
        columns: what is measured, with units.
        measure: yields the rows of one curve and one seed, a row per abscissa.
        draw: returns SVG by the name of the drawing.
        tables: returns Markdown.
        scales: at which it is measured; none: at all scales of the study.
    """

    title: str
    settings: type[CurveSettings]
    columns: tuple[str, ...]
    measure: Measure
    draw: Callable[[Curves, Rows], dict[str, str]]
    tables: Callable[[Curves, Rows], str]
    scales: tuple[Scale, ...] = ()


def without_workspace(measure: Callable[[Any, int], Iterator[Row]]) -> Measure:
    """Return what measures a curve of settings and seed alone as a figure's ``measure``."""
    return lambda settings, seed, work: measure(settings, seed)


def label_of(curves: Curves, name: str) -> str:
    """Return what a curve is called in legends and tables."""
    return str(curves[name].label or name)
