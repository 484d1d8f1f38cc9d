"""How good schedules are: how often they are optimal, and how far above the optimum they may be."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

import numpy as np

from airmoe.report.drawing import Drawing, Line
from airmoe.report.style import LOOKS, looks_of
from airmoe.report.table import Table
from airmoe.scheduling import Plan
from airmoe.studies.curves.figure import Curves, Figure, FigureKind, WithoutWorkspace
from airmoe.studies.curves.panels import panel
from airmoe.studies.curves.rows import Row, Rows, scaled, sweep_table
from airmoe.studies.curves.settings import Count, Seeds, Values
from airmoe.studies.selection.drawn_layers import draw_layer, schedule
from airmoe.studies.selection.settings import ScheduleSettings

EQUAL = 1e-9
"""A schedule is as good as a bound if its energy exceeds the bound by no more than this share."""

FLOOR_PERCENT = 1e-6
"""Gaps below this are drawn at this value."""

WANTED_GAP = {1024: 1e-4, 128: 1e-3}
"""Largest mean gaps that the tight bound shall prove with independent fading, by number of subcarriers."""


class QualitySettings(ScheduleSettings):
    """Layers scheduled by JESA against the number of subcarriers; only transmission counts.

    Attributes:
        draws: number of layers per seed.
    """

    bound: Literal["fast", "tight"] = "fast"
    draws: Count = 1
    swept: Literal["subcarriers"] = "subcarriers"


class OptimalShareSettings(QualitySettings):
    """How many layers of a seed are scheduled optimally."""

    SCALES: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {"seeds": 5, "draws": 40},
        "smoke": {"seeds": 2, "draws": 20, "tokens": 16},
    }

    seeds: Seeds = 10
    draws: Count = 100
    values: Values = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)


class GapSettings(QualitySettings):
    """The gap that is proven, one layer per seed."""

    SCALES: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {"seeds": 5},
        "smoke": {"seeds": 2, "tokens": 64, "values": (64, 256)},
    }

    seeds: Seeds = 30
    tokens: Count = 512
    values: Values = (64, 128, 256, 512, 1024)


def measure_share(settings: OptimalShareSettings, seed: int) -> Iterator[Row]:
    """Yield the shares of a seed's layers: as good as the bound; with best subcarriers that all differ."""
    for value in settings.values:
        optimal, differ = [], []
        for slot in range(settings.draws):
            plan, all_differ = _schedule(settings.at(value), seed, slot)
            optimal.append(plan.gap <= EQUAL)
            differ.append(all_differ)
        yield {
            "x": value,
            "seed": seed,
            "optimal_share": float(np.mean(optimal)),
            "best_differ_share": float(np.mean(differ)),
        }


def measure_gap(settings: GapSettings, seed: int) -> Iterator[Row]:
    """Yield the mean gap of a seed's layers, 0 where they are proven optimal, and the share that are."""
    for value in settings.values:
        plans = [_schedule(settings.at(value), seed, slot)[0] for slot in range(settings.draws)]
        yield {
            "x": value,
            "seed": seed,
            "gap": float(np.mean([0.0 if plan.proven_optimal else plan.gap for plan in plans])),
            "proven_share": float(np.mean([plan.proven_optimal for plan in plans])),
        }


def all_differ_probability(nodes: int, subcarriers: int) -> float:
    """Return the probability that the best subcarriers of all K (K - 1) independently fading links differ."""
    return math.prod(max(0.0, 1 - link / subcarriers) for link in range(nodes * (nodes - 1)))


def _schedule(settings: QualitySettings, seed: int, slot: int) -> tuple[Plan, bool]:
    layer = draw_layer(settings, seed, slot)
    best_L = layer.links.gain_NNM[~np.eye(settings.nodes, dtype=np.bool_)].argmax(axis=1)
    return schedule(layer, settings, seed), np.unique(best_L).size == best_L.size


def draw_share(figure: Figure, rows: Rows) -> dict[str, Drawing]:
    """Return the share of optimal schedules against subcarriers, a panel per number of nodes."""
    panels = []
    for nodes, names in _by_nodes(figure.curves).items():
        drawn = []
        for name in names:
            share = rows.spread(name, "optimal_share")
            look = LOOKS[f"bound {figure.curves[name].bound}"]
            drawn.append(Line(figure.label(name), share.x, share.mean, share.deviation, look=look))
        every_x = sorted({x for curve in drawn for x in curve.x})
        closed = [all_differ_probability(nodes, int(x)) for x in every_x]
        formula = "all best subcarriers differ (formula)"
        drawn.append(Line(formula, every_x, closed, look=LOOKS["formula"]))
        panels.append(panel(figure, drawn, f"K = {nodes}"))
    return {"": Drawing(panels)}


def share_tables(figure: Figure, rows: Rows) -> list[Table]:
    """Return the shares beside the closed form, in percent."""
    found = []
    for nodes, names in _by_nodes(figure.curves).items():
        columns = {figure.label(name): scaled(rows.spread(name, "optimal_share"), 100) for name in names}
        differ = scaled(rows.spread(names[0], "best_differ_share"), 100)
        formula = [100 * all_differ_probability(nodes, int(x)) for x in differ.x]
        closed = differ._replace(mean=formula, deviation=[0.0] * len(formula))
        table = {"formula": closed, "all best differ": differ, **columns}
        found.append(
            sweep_table(f"k{nodes}", f"Optimal, K = {nodes}", figure.x_label("M"), table, unit="% of layers")
        )
    return found


def _by_nodes(curves: Curves) -> dict[int, list[str]]:
    every = sorted({curves[name].nodes for name in curves})
    return {nodes: [name for name in curves if curves[name].nodes == nodes] for nodes in every}


def draw_gap(figure: Figure, rows: Rows) -> dict[str, Drawing]:
    """Return the mean gap against the number of subcarriers, a panel per kind of fading."""
    panels = []
    for fading, title in (("rayleigh", "independent subcarriers"), ("multipath", "correlated over the band")):
        names = [name for name, curve in figure.curves.items() if curve.fading == fading]
        looks = looks_of([f"bound {figure.curves[name].bound}" for name in names])
        drawn = []
        for name, look in zip(names, looks, strict=True):
            gap = scaled(rows.spread(name, "gap"), 100)
            drawn.append(Line(figure.label(name), gap.x, gap.mean, gap.deviation, look=look))
        if drawn:
            panels.append(panel(figure, drawn, title, y_floor=FLOOR_PERCENT))
    return {"": Drawing(panels)}


def gap_tables(figure: Figure, rows: Rows) -> list[Table]:
    """Return mean gaps and shares proven optimal, and whether the gaps are as small as they shall be."""
    names = {name: f"{figure.label(name)}, {curve.fading}" for name, curve in figure.curves.items()}
    gaps = {title: scaled(rows.spread(name, "gap"), 100) for name, title in names.items()}
    found = [sweep_table("gap", "Mean gap", figure.x_label("M"), gaps, unit="%")]
    proven = {title: scaled(rows.spread(name, "proven_share"), 100) for name, title in names.items()}
    # A seed has few layers: the deviation of a share among them says nothing.
    shares = {title: share._replace(deviation=[0.0] * len(share.x)) for title, share in proven.items()}
    found.append(sweep_table("proven", "Proven optimal", figure.x_label("M"), shares, unit="% of layers"))
    wanted = wanted_gaps(figure.curves, rows)
    if wanted:
        body = [
            [label, f"{subcarriers}", f"{seeds}", f"{100 * gap:.2g}", f"{100 * most:g}", verdict]
            for label, subcarriers, seeds, gap, most, verdict in wanted
        ]
        header = ["bound", figure.x_label("M"), "seeds", "mean gap, %", "wanted at most, %", "verdict"]
        found.append(Table("wanted", "What the tight bound shall prove", header, body))
    return found


def wanted_gaps(curves: Curves, rows: Rows) -> list[tuple[str, int, int, float, float, str]]:
    """Return (curve, M, seeds, mean gap, largest mean gap wanted, "met" or "missed") where one is wanted."""
    found = []
    for name, curve in curves.items():
        if curve.bound == "tight" and curve.fading == "rayleigh":
            spread = rows.spread(name, "gap")
            for x, gap in zip(spread.x, spread.mean, strict=True):
                if int(x) in WANTED_GAP:
                    most = WANTED_GAP[int(x)]
                    verdict = "met" if gap <= most else "missed"
                    found.append((curve.label or name, int(x), spread.seeds, gap, most, verdict))
    return found


SHARE_OPTIMAL = FigureKind(
    OptimalShareSettings,
    ("optimal_share", "best_differ_share"),
    WithoutWorkspace(measure_share),
    draw_share,
    share_tables,
)
PROVEN_GAP = FigureKind(
    GapSettings,
    ("gap", "proven_share"),
    WithoutWorkspace(measure_gap),
    draw_gap,
    gap_tables,
)
