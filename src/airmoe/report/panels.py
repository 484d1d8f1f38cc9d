"""Curves with their spread, in panels side by side, as SVG."""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from airmoe.report.style import ACCENT, ALARM, INK, MUTED, SECOND, STYLE, WARM, svg_text

PALETTE = (WARM, ACCENT, SECOND, MUTED, ALARM, "#2b8a3e", "#e67700", "#1864ab", "#a61e4d", "#495057")
"""Colours of curves that name none, in the order in which their labels appear."""

MARKERS = "osD^pPX<>*"
MOST_TICKS = 12


@dataclass(frozen=True)
class Line:
    """One curve, for example of a method.

    Attributes:
        label: its name in the legend; the same label has the same colour in every panel.
        x: abscissae.
        y: ordinates. Points that are not finite are left out, and those not above 0 on a logarithmic axis
            without a floor.
        y_spread: drawn as a band of y +- this, or as error bars where `x_spread` is given, too.
        x_spread: the same for x.
        colour: left out, the next of `PALETTE`.
        theory: whether it is a formula and no measurement; it is dashed, without markers.
        line: whether to join the points.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    y_spread: Sequence[float] | None = None
    x_spread: Sequence[float] | None = None
    colour: str | None = None
    theory: bool = False
    line: bool = True


@dataclass(frozen=True)
class Panel:
    """One pair of axes and the curves in it.

    Attributes:
        title: text above the axes.
        x_label: label of the x axis, with the unit.
        y_label: label of the y axis, with the unit.
        curves: the first is drawn on top.
        x_log: whether x is logarithmic; every x of the curves then has a tick unless there are many.
        y_log: whether y is logarithmic.
        x_range: range of the x axis; left out, what the curves need.
        y_range: range of the y axis; left out, what the curves need.
        y_floor: smaller values, 0 among them, are drawn at this value, as filled triangles.
    """

    title: str
    x_label: str
    y_label: str
    curves: Sequence[Line]
    x_log: bool = False
    y_log: bool = False
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    y_floor: float | None = None


def draw_panels(
    panels: Sequence[Panel], panel_inches: tuple[float, float] = (4.7, 3.8), columns: int | None = None
) -> str:
    """Return panels as one SVG with one legend below them; they stand side by side, or in `columns`."""
    labels = list(dict.fromkeys(curve.label for panel in panels for curve in panel.curves))
    columns = columns or len(panels)
    rows = -(-len(panels) // columns)
    width, height = panel_inches
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width * columns, height * rows + 0.22 * -(-len(labels) // 4)))
        figure.set_layout_engine("constrained")
        every_axes = figure.subplots(rows, columns, squeeze=False).flat
        for axes in every_axes[len(panels) :]:
            axes.set_visible(False)
        handles = {}
        for axes, panel in zip(every_axes, panels, strict=False):
            for curve in reversed(panel.curves):
                handles[curve.label] = _draw_curve(axes, panel, curve, labels.index(curve.label))
            axes.set_title(panel.title)
            axes.set_xlabel(panel.x_label)
            axes.set_ylabel(panel.y_label)
            _scale_axes(axes, panel)
        figure.legend(
            [handles[label] for label in labels],
            labels,
            loc="outside lower center",
            ncols=min(len(labels), 4),
            fontsize=9,
        )
        return svg_text(figure)


def _draw_curve(axes: Axes, panel: Panel, curve: Line, number: int) -> mpl.lines.Line2D:
    x, y = np.asarray(curve.x, float), np.asarray(curve.y, float)
    shown = np.isfinite(x) & np.isfinite(y)
    below = np.zeros_like(shown)
    if panel.y_floor is not None:
        below = shown & (y < panel.y_floor)
        y = np.where(below, panel.y_floor, y)
    if panel.y_log:
        shown &= y > 0
    if panel.x_log:
        shown &= x > 0
    x, y, below = x[shown], y[shown], below[shown]
    colour = curve.colour or PALETTE[number % len(PALETTE)]
    (drawn,) = axes.plot(
        x,
        y,
        color=colour,
        linewidth=1.2 if curve.theory else 1.6,
        linestyle=("--" if curve.theory else "-") if curve.line else "none",
        marker=None if curve.theory else MARKERS[number % len(MARKERS)],
        markersize=4,
        markerfacecolor="white",
        label=curve.label,
        zorder=3,
    )
    axes.plot(x[below], y[below], linestyle="none", marker="v", markersize=7, color=colour, zorder=3)
    if curve.y_spread is not None and x.size:
        spread = np.where(below, 0.0, np.asarray(curve.y_spread, float)[shown])
        if curve.x_spread is not None or x.size == 1:
            sideways = None if curve.x_spread is None else np.asarray(curve.x_spread, float)[shown]
            axes.errorbar(x, y, spread, sideways, fmt="none", ecolor=colour, elinewidth=0.8, zorder=2)
        else:
            low = np.maximum(y - spread, y / 10) if panel.y_log else y - spread
            axes.fill_between(x, low, y + spread, color=colour, alpha=0.16, linewidth=0, zorder=1)
    return drawn


def _scale_axes(axes: Axes, panel: Panel) -> None:
    if panel.x_log:
        ticks = sorted({float(x) for curve in panel.curves for x in curve.x if x > 0})
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        if len(ticks) <= MOST_TICKS:
            turned = 45 if len(ticks) > 6 else 0
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks], rotation=turned, color=INK)
        else:
            short = ticks[-1] < 300 * ticks[0]
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if short else (1,)))
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    if panel.y_log:
        axes.set_yscale("log")
    if panel.x_range is not None:
        axes.set_xlim(*panel.x_range)
    if panel.y_range is not None:
        axes.set_ylim(*panel.y_range)
