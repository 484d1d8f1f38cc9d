"""Figures at the width of a column, as SVG, PDF, PGF and data.

This package needs Matplotlib alone. It imports nothing else of airmoe, and itself by relative names: a copy
lies beside the figures of every run, for the scripts that redraw them.
"""

from .files import FORMATS, drawn, latex_text, package_files, points_csv, redraw, redraw_script, with_points
from .layout import draw
from .parts import (
    DARK,
    INK,
    LIGHT,
    MUTED,
    Drawing,
    Grid,
    Line,
    Look,
    Network,
    Panel,
    Theme,
    style,
)

__all__ = [
    "DARK",
    "FORMATS",
    "INK",
    "LIGHT",
    "MUTED",
    "Drawing",
    "Grid",
    "Line",
    "Look",
    "Network",
    "Panel",
    "Theme",
    "draw",
    "drawn",
    "latex_text",
    "package_files",
    "points_csv",
    "redraw",
    "redraw_script",
    "style",
    "with_points",
]
