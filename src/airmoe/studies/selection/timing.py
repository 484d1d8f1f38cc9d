"""Seconds that it takes to schedule a layer in this process."""

import time
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

import numpy as np

from airmoe.report.drawing import Drawing, Line
from airmoe.report.style import LOOKS
from airmoe.report.table import Table
from airmoe.studies.curves.figure import Curves, Figure, FigureKind, WithoutWorkspace
from airmoe.studies.curves.panels import panel
from airmoe.studies.curves.rows import Row, Rows, scaled, sweep_table
from airmoe.studies.curves.settings import Count, Values
from airmoe.studies.selection.drawn_layers import draw_layer, schedule
from airmoe.studies.selection.settings import ScheduleSettings

AXES = {"nodes": "nodes K", "subcarriers": "subcarriers M", "tokens": "tokens T"}


class TimeSettings(ScheduleSettings):
    """Seconds of `schedule_layer` against the size of the layer; only transmission costs energy.

    Attributes:
        repeats: how often each layer is scheduled; the median counts.
    """

    SCALES: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {"seeds": 5, "repeats": 3},
        "smoke": {"seeds": 2, "repeats": 2, "tokens": 64},
    }

    tokens: Count = 512
    repeats: Count = 5
    swept: Literal["nodes", "subcarriers", "tokens"]
    values: Values


def measure_time(settings: TimeSettings, seed: int) -> Iterator[Row]:
    """Yield the median, the least and the most seconds of the repeats, after one that warms up."""
    for value in settings.values:
        point = settings.at(value)
        layer = draw_layer(point, seed, 0)
        schedule(layer, point, seed)
        seconds = []
        for _ in range(point.repeats):
            begin = time.perf_counter()
            schedule(layer, point, seed)
            seconds.append(time.perf_counter() - begin)
        yield {
            "x": value,
            "seed": seed,
            "median_s": float(np.median(seconds)),
            "least_s": min(seconds),
            "most_s": max(seconds),
        }


def draw_time(figure: Figure, rows: Rows) -> dict[str, Drawing]:
    """Return milliseconds against nodes, subcarriers and tokens."""
    panels = []
    for swept, names in _by_swept(figure.curves).items():
        drawn = []
        for name in names:
            time_ms = scaled(rows.spread(name, "median_s"), 1e3)
            look = LOOKS[f"bound {figure.curves[name].bound}"]
            drawn.append(Line(figure.label(name), time_ms.x, time_ms.mean, time_ms.deviation, look=look))
        rest = ", ".join(
            f"{letter} = {getattr(figure.curves[names[0]], field)}"
            for letter, field in (("K", "nodes"), ("M", "subcarriers"), ("T", "tokens"))
            if field != swept
        )
        panels.append(panel(figure, drawn, rest, x_label=_x_label(figure, swept)))
    return {"": Drawing(panels)}


def time_tables(figure: Figure, rows: Rows) -> list[Table]:
    """Return milliseconds for each size of a layer."""
    found = []
    for swept, names in _by_swept(figure.curves).items():
        columns = {figure.label(name): scaled(rows.spread(name, "median_s"), 1e3) for name in names}
        title = f"Time of a layer against {AXES[swept]}"
        found.append(sweep_table(swept, title, _x_label(figure, swept), columns, unit="ms"))
    return found


def _x_label(figure: Figure, swept: str) -> str:
    """Return what a panel sweeps; the figure's own label cannot stand for several."""
    return AXES[swept] if len(_by_swept(figure.curves)) > 1 else figure.x_label(AXES[swept])


def _by_swept(curves: Curves) -> dict[str, list[str]]:
    order = ["none", "fast", "tight"]
    found = {
        swept: sorted(
            (name for name in curves if curves[name].swept == swept),
            key=lambda name: (order.index(curves[name].bound), name),
        )
        for swept in AXES
    }
    return {swept: names for swept, names in found.items() if names}


RUN_TIME = FigureKind(
    TimeSettings,
    ("median_s", "least_s", "most_s"),
    WithoutWorkspace(measure_time),
    draw_time,
    time_tables,
    timed=True,
)
