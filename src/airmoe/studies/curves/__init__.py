"""Studies that are made of curves: figures, a TOML per curve, rows kept as CSV, and the run folder of it all.

A study is described by a `Study`; `run_study` measures it, and goes on with one that was interrupted. Needs
no PyTorch: what a figure measures brings its own.
"""

from airmoe.studies.curves.figure import Curves, Figure, Workspace, label_of, without_workspace
from airmoe.studies.curves.rows import Row, Rows
from airmoe.studies.curves.run import run_study
from airmoe.studies.curves.settings import CurveSettings, dump_curve, read_curves
from airmoe.studies.curves.study import Study

__all__ = [
    "CurveSettings",
    "Curves",
    "Figure",
    "Row",
    "Rows",
    "Study",
    "Workspace",
    "dump_curve",
    "label_of",
    "read_curves",
    "run_study",
    "without_workspace",
]
