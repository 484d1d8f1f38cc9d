"""What a figure is made of: looks, curves, panels, grids, networks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_hex

SINGLE_IN, DOUBLE_IN = 3.5, 7.16
"""Widths of one and of two columns of an IEEE page, inches."""

INK, MUTED, GRID, PAPER = "#1f2933", "#66727f", "#d9dee3", "#ffffff"
FONT_PT, SMALL_PT = 8, 6
LEVELS = 40
"""Colours of values; a scale of 50 and more would be drawn as an image."""

FAINTEST = 0.25
"""Where the colours of lines begin on the scale, lest the lowest values cannot be seen."""


def value_colours(first: float = 0.0) -> list[str]:
    """Return the colours of values, from the lowest to the highest."""
    return [to_hex(colour) for colour in mpl.colormaps["Blues"](np.linspace(first, 1, LEVELS))]


@dataclass(frozen=True)
class Look:
    """The look of a curve: colour, marker ("" for none) and dashes ("" for points that are not joined)."""

    colour: str = INK
    marker: str = "o"
    dash: str = "-"


@dataclass(frozen=True)
class Line:
    """One curve, for example of a method.

    Attributes:
        label: its name in the legend; curves of the same label have the same look.
        x: abscissae.
        y: ordinates. Points that are not finite are left out, and those not above 0 on a logarithmic axis
            without a floor.
        y_spread: drawn as a band of y +- this, or as error bars where `x_spread` is given, too.
        x_spread: the same for x.
        look: see `Look`.
        rows: the numbers of panel and curve of its rows in the CSV; none if the points stand here.
    """

    label: str
    x: Sequence[float] = ()
    y: Sequence[float] = ()
    y_spread: Sequence[float] | None = None
    x_spread: Sequence[float] | None = None
    look: Look = Look()
    rows: Sequence[int] = ()


@dataclass(frozen=True)
class Panel:
    """One pair of axes and the curves in it.

    Attributes:
        title: text above the axes.
        x_label: label of the x axis, with the unit.
        y_label: label of the y axis, with the unit.
        curves: the first is drawn on top.
        x_log: whether x is logarithmic; every x of the curves then has a tick, unless there are many or x was
            measured, so that it has a spread.
        y_log: whether y is logarithmic.
        x_range: range of the x axis; left out, what the curves need.
        y_range: range of the y axis; left out, what the curves need.
        y_floor: smaller values, 0 among them, are drawn at this value, as filled triangles.
        marks: abscissae of dashed vertical lines, and the text beside each.
    """

    title: str
    x_label: str
    y_label: str
    curves: Sequence[Line] = ()
    x_log: bool = False
    y_log: bool = False
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    y_floor: float | None = None
    marks: Sequence[Sequence[Any]] = ()


@dataclass(frozen=True)
class Grid:
    """A matrix as coloured cells.

    Attributes:
        title: text above the grid.
        x_label: what the columns are.
        y_label: what the rows are.
        unit: text beside the scale of colours.
        columns: label of each column.
        curves: a row each: its label, and in `Line.y` the value of each column.
    """

    title: str
    x_label: str
    y_label: str
    unit: str
    columns: Sequence[str]
    curves: Sequence[Line] = ()


@dataclass(frozen=True)
class Network:
    """Nodes on a circle, and the links between them: half of each line, at the node that sends.

    Attributes:
        title: text above the network.
        unit: text beside the scale of colours.
        curves: a node each: its label, in `Line.x` the numbers of the nodes it can send to, and in `Line.y`
            the value of each of these links.
    """

    title: str
    unit: str
    curves: Sequence[Line] = ()


@dataclass(frozen=True)
class Drawing:
    """Panels and one legend below them.

    Attributes:
        panels: see `Panel`, `Grid` and `Network`.
        columns: how many stand side by side; left out, all.
        panel_height: inches.
    """

    panels: Sequence[Panel | Grid | Network]
    columns: int = 0
    panel_height: float = 2.3

    @property
    def width_in(self) -> float:
        """Inches: one column of a page for panels below each other, else two."""
        return SINGLE_IN if (self.columns or len(self.panels)) == 1 else DOUBLE_IN


STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.size": FONT_PT,
    "axes.titlesize": FONT_PT,
    "axes.labelsize": FONT_PT,
    "xtick.labelsize": FONT_PT,
    "ytick.labelsize": FONT_PT,
    "legend.fontsize": FONT_PT,
    "svg.fonttype": "none",
    "svg.hashsalt": "airmoe",
    "pdf.fonttype": 42,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.linewidth": 0.6,
    "grid.linewidth": 0.5,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "legend.columnspacing": 1.4,
    "legend.labelspacing": 0.35,
    **dict.fromkeys(("text.color", "axes.titlecolor"), INK),
    **dict.fromkeys(("axes.labelcolor", "xtick.color", "ytick.color"), MUTED),
    **dict.fromkeys(("axes.edgecolor", "grid.color"), GRID),
}
"""Matplotlib settings, for ``matplotlib.rc_context``."""
