"""Panels, grids and networks, each drawn into its axes."""

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from .parts import FAINTEST, INK, MUTED, PAPER, SMALL_PT, Grid, Line, Network, Panel, value_colours

MOST_TICKS, LONGEST_LABEL = 12, 20


def draw_panel(axes: Axes, panel: Panel) -> dict[str, Line2D]:
    """Draw curves; return the handle of each label, in the order of the curves."""
    drawn = {curve.label: _draw_curve(axes, panel, curve) for curve in reversed(panel.curves)}
    axes.grid(visible=True)
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    if panel.x_log:
        ticks = sorted({float(x) for curve in panel.curves for x in curve.x if x > 0})
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        measured = any(curve.x_spread is not None for curve in panel.curves)
        if ticks and len(ticks) <= MOST_TICKS and not measured:
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        else:
            ratio = ticks[-1] / ticks[0] if ticks else 1.0
            steps = (1, 2, 3, 5, 7) if ratio < 10 else (1, 2, 5) if ratio < 300 else (1,)
            axes.xaxis.set_major_locator(LogLocator(subs=steps))
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    else:
        axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], min_n_ticks=3))
    if panel.y_log:
        axes.set_yscale("log")
        floored = [max(y, panel.y_floor or y) for curve in panel.curves for y in curve.y]
        heights = [y for y in floored if y > 0]
        if heights and max(heights) < 300 * min(heights):
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.yaxis.set_minor_locator(NullLocator())
    if panel.x_range is not None:
        axes.set_xlim(*panel.x_range)
    if panel.y_range is not None:
        axes.set_ylim(*panel.y_range)
    for row, (x, text) in enumerate(panel.marks):
        axes.axvline(x, color=MUTED, linewidth=0.8, linestyle="--")
        axes.annotate(
            text,
            (x, 0.05 + 0.13 * row),
            xycoords=("data", "axes fraction"),
            xytext=(3, 0),
            textcoords="offset points",
        )
    return {curve.label: drawn[curve.label] for curve in panel.curves}


def _draw_curve(axes: Axes, panel: Panel, curve: Line) -> Line2D:
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
    look, colour = curve.look, curve.look.colour
    many = x.size > 100
    (drawn,) = axes.plot(
        x,
        y,
        color=colour,
        linewidth=1.2,
        linestyle=look.dash or "none",
        marker=look.marker or None,
        markersize=1.5 if many else 3.5,
        markerfacecolor=colour if many or not look.dash else PAPER,
        markeredgewidth=0.9,
        zorder=3,
    )
    axes.plot(x[below], y[below], linestyle="none", marker="v", markersize=4.5, color=colour, zorder=3)
    if curve.y_spread is not None and x.size:
        spread = np.where(below, 0.0, np.asarray(curve.y_spread, float)[shown])
        if curve.x_spread is not None or x.size == 1:
            sideways = None if curve.x_spread is None else np.asarray(curve.x_spread, float)[shown]
            axes.errorbar(x, y, spread, sideways, fmt="none", ecolor=colour, elinewidth=0.7, zorder=2)
        else:
            low = np.maximum(y - spread, y / 10) if panel.y_log else y - spread
            axes.fill_between(x, low, y + spread, color=colour, alpha=0.16, linewidth=0, zorder=1)
    return drawn


def draw_grid(axes: Axes, grid: Grid) -> None:
    """Draw a matrix as cells, with its numbers where there is room."""
    values = np.array([row.y for row in grid.curves], float)
    most = max(float(np.nanmax(values, initial=0.0)), 1e-12)
    colours = mpl.colors.ListedColormap(value_colours())
    cells = axes.pcolormesh(values, cmap=colours, vmin=0, vmax=most, edgecolors=PAPER, linewidth=0.5)
    axes.invert_yaxis()
    rows = [row.label for row in grid.curves]
    for set_ticks, labels, most in ((axes.set_xticks, grid.columns, MOST_TICKS), (axes.set_yticks, rows, 20)):
        shown = range(0, len(labels), -(-len(labels) // most))
        set_ticks([place + 0.5 for place in shown], [_cut(labels[place]) for place in shown])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(grid.x_label)
    axes.set_ylabel(grid.y_label)
    if len(grid.columns) <= MOST_TICKS:
        for (row, column), value in np.ndenumerate(values):
            red, green, blue, _ = cells.to_rgba(np.array([value]))[0]
            bright = 0.3 * red + 0.59 * green + 0.11 * blue > 0.5
            if value > 0:
                axes.text(
                    column + 0.5,
                    row + 0.5,
                    f"{value:.0f}",
                    color=INK if bright else PAPER,
                    size=SMALL_PT,
                    ha="center",
                    va="center_baseline",
                )
    _scale_of_colours(axes, cells, grid.unit)


def _cut(label: str) -> str:
    return label if len(label) <= LONGEST_LABEL else f"{label[: LONGEST_LABEL - 1]}…"


def draw_network(axes: Axes, network: Network) -> None:
    """Draw nodes on a circle; half of each line, at the node that sends, is its link."""
    nodes = len(network.curves)
    angle_N = np.pi / 2 - 2 * np.pi * np.arange(nodes) / max(nodes, 1)
    place_N2 = np.stack([np.cos(angle_N), np.sin(angle_N)], axis=1)
    values = [y for node in network.curves for y in node.y if np.isfinite(y)]
    low, high = min(values, default=0.0), max(values, default=1.0)
    colours = mpl.colors.ListedColormap(value_colours(FAINTEST))
    scale = mpl.cm.ScalarMappable(mpl.colors.Normalize(low, high), colours)
    for number, node in enumerate(network.curves):
        for other, value in zip(node.x, node.y, strict=True):
            if np.isfinite(value):
                middle = (place_N2[number] + place_N2[int(other)]) / 2
                axes.plot(
                    *np.stack([place_N2[number], middle]).T,
                    color=colours((value - low) / max(high - low, 1e-12)),
                    linewidth=1.1,
                )
        x, y = place_N2[number].tolist()
        axes.plot(x, y, "o", markersize=12, color=PAPER, markeredgecolor=INK, zorder=4)
        axes.text(x, y, f"{number}", ha="center", va="center_baseline", zorder=5)
        x, y = 1.2 * x, 1.2 * y
        side = "center" if abs(x) < 0.2 else "left" if x > 0 else "right"
        height = "bottom" if y > 0.9 else "top" if y < -0.9 else "center"
        label = "\n".join(map(_cut, node.label.split("\n")))
        axes.text(x, y, label, size=SMALL_PT, ha=side, va=height, color=MUTED)
    axes.set_aspect("equal", "box")
    axes.set_xlim(-2.1, 2.1)
    axes.set_ylim(-1.75, 1.75)
    axes.set_axis_off()
    _scale_of_colours(axes, scale, network.unit)


def _scale_of_colours(axes: Axes, of: Any, unit: str) -> None:
    figure = axes.get_figure()
    assert figure is not None
    bar = figure.colorbar(of, ax=axes, shrink=0.8, aspect=25, label=unit)
    bar.outline.set_visible(False)
