"""Figures at the width of a column or of a page, as SVG, PDF, PGF and data.

This package needs Matplotlib alone. It imports nothing else of airmoe, and itself by relative names: a copy
lies beside the figures of every run, for the scripts that redraw them.
"""

from .files import (
    FORMATS,
    drawn,
    latex_text,
    math_fault,
    package_files,
    points_csv,
    redraw,
    redraw_script,
    with_points,
    with_rows,
)
from .layout import draw
from .parts import (
    FAINTEST,
    GRID,
    INK,
    MUTED,
    PAPER,
    STYLE,
    Drawing,
    Grid,
    Line,
    Look,
    Network,
    Panel,
    value_colours,
)

__all__ = [
    "FAINTEST",
    "FORMATS",
    "GRID",
    "INK",
    "MUTED",
    "PAPER",
    "STYLE",
    "Drawing",
    "Grid",
    "Line",
    "Look",
    "Network",
    "Panel",
    "draw",
    "drawn",
    "latex_text",
    "math_fault",
    "package_files",
    "points_csv",
    "redraw",
    "redraw_script",
    "value_colours",
    "with_points",
    "with_rows",
]
