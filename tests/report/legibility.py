"""What is wrong with a figure: text or a legend off the canvas, or one over the other."""

from itertools import combinations

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from airmoe.report.drawing import STYLE, Drawing, draw

TOUCH_PX = 1.5
"""Pixels of 1/200 inch by which boxes may overlap: a box is a little larger than its letters."""


def faults(drawing: Drawing) -> list[str]:
    """Return a line for every text that leaves the canvas or overlaps another, or the curves of a panel."""
    with mpl.rc_context(STYLE):
        return faults_of(draw(drawing))


def faults_of(figure: Figure) -> list[str]:
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    boxes = dict(boxes_of(figure, renderer))
    canvas = figure.bbox.padded(TOUCH_PX)
    found = [f"{name} leaves the canvas" for name, box in boxes.items() if not inside(box, canvas)]
    for (one, box), (other, second) in combinations(boxes.items(), 2):
        if overlap(box, second):
            found.append(f"{one} overlaps {other}")
    panels = {f"panel {n}": axes.get_window_extent(renderer) for n, axes in enumerate(figure.axes)}
    for (one, box), (other, second) in combinations(panels.items(), 2):
        if overlap(box, second):
            found.append(f"{one} overlaps {other}")
    for name, box in boxes.items():
        if "tick" not in name and "mark" not in name:
            found += [f"{name} overlaps {other}" for other, second in panels.items() if overlap(box, second)]
    return found


def boxes_of(figure: Figure, renderer: object) -> list[tuple[str, Bbox]]:
    found = [
        (f"legend {text.get_text()!r}", text.get_window_extent(renderer))  # type: ignore[arg-type]
        for legend in figure.legends
        for text in legend.get_texts()
    ]
    for number, axes in enumerate(figure.axes):
        if axes.get_visible():
            found += [(f"panel {number}: {name}", box) for name, box in texts_of(axes, renderer)]
    return found


def texts_of(axes: Axes, renderer: object) -> list[tuple[str, Bbox]]:
    texts = [("title", axes.title), ("title", axes._left_title)]  # type: ignore[attr-defined]
    texts += [("mark", text) for text in axes.texts if not text.get_text().isdecimal()]
    if axes.axison:
        texts += [("x label", axes.xaxis.label), ("y label", axes.yaxis.label)]
        for side, axis, limits in (("x", axes.xaxis, axes.get_xlim()), ("y", axes.yaxis, axes.get_ylim())):
            texts += [
                (f"{side} tick", tick.label1 if tick.label1.get_visible() else tick.label2)
                for tick in axis.get_major_ticks()
                if min(limits) <= tick.get_loc() <= max(limits)
            ]
    return [
        (f"{name} {text.get_text()!r}", text.get_window_extent(renderer))  # type: ignore[arg-type]
        for name, text in texts
        if text.get_text() and text.get_visible()
    ]


def overlap(one: Bbox, other: Bbox) -> bool:
    wide = min(one.x1, other.x1) - max(one.x0, other.x0)
    high = min(one.y1, other.y1) - max(one.y0, other.y0)
    return wide > TOUCH_PX and high > TOUCH_PX


def inside(box: Bbox, canvas: Bbox) -> bool:
    return bool(canvas.x0 <= box.x0 and box.x1 <= canvas.x1 and canvas.y0 <= box.y0 and box.y1 <= canvas.y1)
