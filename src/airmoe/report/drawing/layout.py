"""A whole figure: its panels, and room for every text."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.text import Text

from .axes import draw_grid, draw_network, draw_panel
from .parts import Drawing, Grid, Network, Panel

EDGE_PX = 6
MOST_COLUMNS = 5


def draw(drawing: Drawing) -> Figure:
    """Return a figure in which every text has its place, to be saved within ``rc_context(STYLE)``."""
    columns = drawing.columns or len(drawing.panels)
    rows = -(-len(drawing.panels) // columns)
    figure = Figure(figsize=(drawing.width_in, drawing.panel_height * rows), dpi=200)
    FigureCanvasAgg(figure)  # measures texts
    figure.set_layout_engine("constrained")
    figure.patch.set_alpha(0.0)
    handles: dict[str, Line2D] = {}
    titles: list[Text] = []
    every_axes: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in every_axes[len(drawing.panels) :]:
        axes.set_visible(False)
    for axes, panel in zip(every_axes, drawing.panels, strict=False):
        axes.patch.set_alpha(0.0)
        titles.append(axes.set_title(panel.title))
        match panel:
            case Panel():
                handles |= draw_panel(axes, panel)
            case Grid():
                draw_grid(axes, panel)
            case Network():
                draw_network(axes, panel)
    _fit(figure, list(zip(every_axes, titles, strict=False)), handles)
    return figure


def measure(figure: Figure) -> RendererAgg:
    """Return what measures the texts of a figure."""
    assert isinstance(figure.canvas, FigureCanvasAgg)
    renderer: RendererAgg = figure.canvas.get_renderer()  # type: ignore[no-untyped-call]
    return renderer


def _fit(figure: Figure, titled: Sequence[tuple[Axes, Text]], handles: Mapping[str, Line2D]) -> None:
    """Give every text its room: few rows of the legend, broken titles, turned ticks."""
    legend = _legend(figure, handles) if handles else None
    if legend is not None:
        height_in = legend.get_window_extent(measure(figure)).height / figure.dpi
        figure.set_figheight(figure.get_figheight() + height_in)
    figure.draw_without_rendering()
    for _ in range(2):  # what is broken or turned takes room from the axes
        changed = [_break_texts(figure, *one) | _turn_ticks(figure, one[0]) for one in titled]
        if not any(changed):
            break
        figure.draw_without_rendering()
    figure.set_layout_engine("none")


def _legend(figure: Figure, handles: Mapping[str, Line2D]) -> Legend:
    room = figure.bbox.width - 2 * EDGE_PX

    def made(columns: int) -> Legend:
        return figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=columns)

    fitting = [1]
    for columns in range(2, min(len(handles), MOST_COLUMNS) + 1):
        tried = made(columns)
        if tried.get_window_extent(measure(figure)).width <= room:
            fitting.append(columns)
        tried.remove()
    return made(balanced_columns(len(handles), fitting))


def balanced_columns(entries: int, fitting: Sequence[int]) -> int:
    """Return how many columns a legend has: few rows of equal length, and no entry alone in the last one.

    Args:
        entries: how many.
        fitting: the numbers of columns that there is room for.
    """
    rows = {columns: -(-entries // columns) for columns in fitting}
    few = [columns for columns in fitting if rows[columns] <= min(rows.values()) + 1]
    return min(few, key=lambda columns: (columns > 1 and entries % columns == 1, rows[columns], columns))


def _break_texts(figure: Figure, axes: Axes, title: Text) -> bool:
    """Break titles and labels into lines that are no longer than the axes; return whether one was broken."""
    changed = False
    box = axes.get_window_extent(measure(figure))
    for text, room in ((title, box.width), (axes.xaxis.label, box.width), (axes.yaxis.label, box.height)):
        before, lines = text.get_text(), list[str]()
        for word in before.split():
            longer = " ".join([*lines[-1:], word])
            text.set_text(longer)
            extent = text.get_window_extent(measure(figure))
            if lines and max(extent.width, extent.height) <= room:
                lines[-1] = longer
            else:
                lines.append(word)
        text.set_text("\n".join(lines))
        changed |= text.get_text() != before
    return changed


def _turn_ticks(figure: Figure, axes: Axes) -> bool:
    """Turn the labels along x if they would touch each other; return whether they were turned."""
    for degrees in (45, 90):
        boxes = [
            text.get_window_extent(measure(figure))
            for text in axes.get_xticklabels()
            if text.get_text() and text.get_visible()
        ]
        boxes.sort(key=lambda box: box.x0)
        if all(left.x1 + 0.25 * left.height < right.x0 for left, right in pairwise(boxes)):
            return degrees == 90
        axes.tick_params(axis="x", rotation=degrees)
        if degrees == 45:
            spacing = boxes[1].x0 - boxes[0].x0
            if spacing > 1.6 * boxes[0].height:
                break
    return True
