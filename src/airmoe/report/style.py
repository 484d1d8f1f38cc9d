"""The style of every figure: colours, fonts, and SVG whose bytes depend only on what it shows."""

import io
from typing import Any

from matplotlib.figure import Figure

INK, MUTED, GRID = "#1f2933", "#66727f", "#e4e8ec"
ACCENT, SECOND, WARM, ALARM = "#0b7285", "#5f3dc4", "#e8590c", "#c92a2a"

STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 10,
    "svg.fonttype": "none",
    "svg.hashsalt": "airmoe",
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
}
"""Matplotlib settings, for ``matplotlib.rc_context``."""


def svg_text(figure: Figure) -> str:
    """Return a figure as the text of one SVG, without a date."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
