"""Studies that are made of curves: a TOML per figure, rows kept as CSV, and the run folder of it all.

A `Study` describes a study; `run_study` measures it, and resumes one that was interrupted. Needs no PyTorch:
a kind of figure imports what it measures with.
"""

from airmoe.studies.curves.figure import (
    Axis,
    Curves,
    Figure,
    FigureKind,
    Heading,
    WithoutWorkspace,
    Workspace,
)
from airmoe.studies.curves.figure_file import dump_figure, read_figure
from airmoe.studies.curves.rows import Row, Rows
from airmoe.studies.curves.run import run_study
from airmoe.studies.curves.settings import CurveSettings
from airmoe.studies.curves.study import Study

__all__ = [
    "Axis",
    "CurveSettings",
    "Curves",
    "Figure",
    "FigureKind",
    "Heading",
    "Row",
    "Rows",
    "Study",
    "WithoutWorkspace",
    "Workspace",
    "dump_figure",
    "read_figure",
    "run_study",
]
