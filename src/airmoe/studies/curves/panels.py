"""Panels of a figure, with the axes that its file describes."""

from collections.abc import Sequence

from airmoe.report.drawing import Line, Panel
from airmoe.studies.curves.figure import Figure


def panel(
    figure: Figure,
    lines: Sequence[Line],
    title: str = "",
    *,
    x_label: str = "",
    y_label: str = "",
    y_floor: float | None = None,
) -> Panel:
    """Return a panel of a figure; a label that is given takes the place of the axis's own."""
    x_axis, y_axis = figure.heading.x_axis, figure.heading.y_axis
    return Panel(
        title,
        x_label or x_axis.label,
        y_label or y_axis.label,
        lines,
        x_log=x_axis.log,
        y_log=y_axis.log,
        x_range=x_axis.range,
        y_range=y_axis.range,
        y_floor=y_floor,
    )
