"""Figures and tables of the energy and the relevance of policies."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from airmoe.report.drawing import Drawing, Line, Look, Panel
from airmoe.report.style import LOOKS, looks_of
from airmoe.report.table import Cell, Mean, Table
from airmoe.studies.curves.figure import Curves, Figure, FigureKind, WithoutWorkspace
from airmoe.studies.curves.panels import panel
from airmoe.studies.curves.rows import Row, Rows, Spread, scaled, sweep_table
from airmoe.studies.selection.energies import (
    COLUMNS,
    LAYER_COLUMNS,
    ByLayerSettings,
    EnergySettings,
    MaxExpertsSettings,
    measure_layers,
    measure_sweep,
)

ORDER = ("jesa", "homogeneous", "des", "lower-bound", "topk", "wlr", "cheapest", "random", "all")
"""Policies in the order of legends and tables."""

TWO = (
    ("energy per token", "mJ per token and layer", "energy_j", 1e3),
    ("relevance kept", "mean sum of chosen scores", "relevance", 1.0),
)
"""Title, unit, column and scale of the two panels that most figures have."""


def draw_importance(figure: Figure, rows: Rows) -> dict[str, Drawing]:
    """Return energy and relevance against the importance factor, and relevance against energy."""
    swept = [name for name in _ordered(figure.curves) if figure.curves[name].swept in {"importance", "z"}]
    topk = [name for name in figure.curves if figure.curves[name].policy == "topk"]
    every_x = [x for name in swept for x in rows.spread(name, "energy_j").x] or [0.0, 1.0]

    def level(name: str, column: str, scale: float) -> Line:
        """Return the value of a top-k curve at the settings' own k, across the panel."""
        spread = scaled(_of_k(figure, rows, name, column), scale)
        ends = [min(every_x), max(every_x)]
        label = f"top-{spread.x[0]:g}"
        return Line(label, ends, spread.mean * 2, spread.deviation * 2, look=LOOKS["topk"])

    panels = [
        panel(
            figure,
            [_curve(figure, rows, name, column, scale) for name in swept]
            + [level(name, column, scale) for name in topk],
            title,
            y_label=y_label,
        )
        for title, y_label, column, scale in TWO
    ]
    by_policy = {figure.curves[name].policy: name for name in _ordered(figure.curves)}
    above = [
        Line(figure.label(by_policy[policy]), x, mean, deviation, look=LOOKS[policy])
        for policy in ("jesa", "des")
        if {policy, "lower-bound"} <= by_policy.keys()
        for x, mean, deviation, _ in [_above(rows, by_policy[policy], by_policy["lower-bound"])]
    ]
    if above:
        panels.append(
            Panel(
                "above the lower bound", figure.x_label("importance factor gamma0"), "% of its energy", above
            )
        )
    return {"": Drawing(panels), "trade_off": Drawing([_trade_off(figure, rows)])}


def importance_tables(figure: Figure, rows: Rows) -> list[Table]:
    """Return energy and relevance at each importance factor, of other policies too, and comparisons."""
    swept = [name for name in _ordered(figure.curves) if figure.curves[name].swept in {"importance", "z"}]
    others = [name for name in _ordered(figure.curves) if name not in swept]
    found = []
    for title, unit, column, scale in (
        ("Energy", "mJ per token and layer", "energy_j", 1e3),
        ("Of which over the air", "mJ per token and layer", "comm_j", 1e3),
        ("Relevance kept", "", "relevance", 1.0),
    ):
        in_all = column == "comm_j" and not any(any(figure.curves[name].compute_j) for name in swept)
        if swept and not in_all:
            columns = {figure.label(name): scaled(rows.spread(name, column), scale) for name in swept}
            found.append(sweep_table(column, title, figure.x_label("gamma0 or z"), columns, unit=unit))
    body: list[list[Cell]] = []
    for name in others:
        energy, kept = scaled(rows.spread(name, "energy_j"), 1e3), rows.spread(name, "relevance")
        for index, x in enumerate(energy.x):
            body.append(
                [
                    f"{figure.label(name)}, {figure.curves[name].swept} = {x:g}",
                    Mean(energy.mean[index], energy.deviation[index]),
                    Mean(kept.mean[index], kept.deviation[index]),
                ]
            )
    if body:
        header = ["policy", "mJ per token and layer", "relevance kept"]
        found.append(Table("others", "Policies without gamma0", header, body))
    by_policy = {figure.curves[name].policy: name for name in _ordered(figure.curves)}
    if "jesa" in by_policy:
        found.append(_beside_jesa(figure, rows, by_policy))
    if {"jesa", "homogeneous"} <= by_policy.keys():
        found.append(_at_equal_energy(figure, rows, by_policy["jesa"], by_policy["homogeneous"]))
    return found


def draw_max_experts(figure: Figure, rows: Rows) -> dict[str, Drawing]:
    """Return energy and relevance against the largest number of experts."""
    return {"": _two_panels(figure, rows)}


def max_experts_tables(figure: Figure, rows: Rows) -> list[Table]:
    """Return energy, relevance and the share of tokens that get what they ask, for each D."""
    met = ("tokens whose requirement is met", "%", "met_share", 1e2)
    return [
        sweep_table(
            column,
            title.capitalize(),
            figure.x_label("D"),
            {
                figure.label(name): scaled(rows.spread(name, column), scale)
                for name in _ordered(figure.curves)
            },
            unit=unit,
        )
        for title, unit, column, scale in (*TWO, met)
    ]


def draw_layers(figure: Figure, rows: Rows) -> dict[str, Drawing]:
    """Return energy and relevance of each layer, from shallow to deep."""
    return {"": _two_panels(figure, rows)}


def layers_tables(figure: Figure, rows: Rows) -> list[Table]:
    """Return mean energy and relevance of each quarter of the layers, and of all."""
    body = []
    for name in _ordered(figure.curves):
        energy, kept = scaled(rows.spread(name, "energy_j"), 1e3), rows.spread(name, "relevance")
        every = np.arange(len(energy.x))
        for part in (*np.array_split(every, min(4, len(every))), every):
            body.append(
                [
                    figure.label(name),
                    " to ".join(dict.fromkeys((f"{energy.x[part[0]]:g}", f"{energy.x[part[-1]]:g}"))),
                    f"{np.array(energy.mean)[part].mean():.3f}",
                    f"{np.array(kept.mean)[part].mean():.3f}",
                ]
            )
    header = ["policy", figure.x_label("layers"), "mJ per token and layer", "relevance kept"]
    return [Table("quarters", "Means of quarters of the layers, and of all", header, body)]


def _beside_jesa(figure: Figure, rows: Rows, by_policy: dict[str, str]) -> Table:
    """Return how JESA compares with others at the same gamma0 and seed, in percent."""
    jesa, columns = by_policy["jesa"], {}
    for policy, title in (("des", "DES"), ("lower-bound", "the lower bound")):
        if policy in by_policy:
            columns[f"energy above {title}"] = _above(rows, jesa, by_policy[policy])
    if "topk" in by_policy:
        for column, title in (("energy_j", "energy"), ("relevance", "relevance")):
            k, shares = _beside_top(figure, rows, jesa, column)
            columns[f"{title}, of top-{k}'s"] = shares
    title = "JESA beside others, seed by seed"
    return sweep_table("beside_jesa", title, figure.x_label("gamma0"), columns, unit="%")


def _trade_off(figure: Figure, rows: Rows) -> Panel:
    """Return relevance against energy; energy is in percent of top-k's, seed by seed, if there is a top-k."""
    relative = any(figure.curves[name].policy == "topk" for name in figure.curves)
    x_label, drawn = "energy, mJ per token and layer", []
    for name in _ordered(figure.curves):
        energy, kept = scaled(rows.spread(name, "energy_j"), 1e3), rows.spread(name, "relevance")
        if relative:
            k, energy = _beside_top(figure, rows, name, "energy_j")
            x_label = f"energy, % of top-{k}'s"
        look = _look(figure, name)
        drawn.append(Line(figure.label(name), energy.mean, kept.mean, kept.deviation, energy.deviation, look))
    return Panel("what energy keeps", x_label, "relevance kept", drawn, x_log=True)


def _beside_top(figure: Figure, rows: Rows, curve: str, column: str) -> tuple[int, Spread]:
    """Return k, and a curve's value in percent of top-k's with the same seed."""
    name = next(name for name in figure.curves if figure.curves[name].policy == "topk")
    k = _of_k(figure, rows, name, column).x[0]
    top = {row["seed"]: row[column] for row in rows.of(name) if row["x"] == k}
    shares = [
        {**row, "percent": 100 * row[column] / top[row["seed"]]}
        for row in rows.of(curve)
        if top.get(row["seed"])
    ]
    return int(k), Rows({curve: shares}).spread(curve, "percent")


def _above(rows: Rows, curve: str, reference: str) -> Spread:
    """Return the percent by which a curve's energy is above another's at the same x and seed."""
    at = {(row["x"], row["seed"]): row["energy_j"] for row in rows.of(reference)}
    compared = [
        {**row, "percent": 100 * (row["energy_j"] / at[row["x"], row["seed"]] - 1)}
        for row in rows.of(curve)
        if at.get((row["x"], row["seed"]))
    ]
    return Rows({curve: compared}).spread(curve, "percent")


def _at_equal_energy(figure: Figure, rows: Rows, jesa: str, homogeneous: str) -> Table:
    """Return how much more relevance JESA keeps than homogeneous selection at equal energy, seed by seed."""
    compared: list[Row] = []
    for row in rows.of(jesa):
        energies, kept, kept_first = zip(
            *sorted(
                (other["energy_j"], other["relevance"], other["relevance_first_quarter"])
                for other in rows.of(homogeneous)
                if other["seed"] == row["seed"]
            ),
            strict=True,
        )
        if energies[0] <= row["energy_j"] <= energies[-1]:
            here = row["energy_j"]
            more = row["relevance"] - float(np.interp(here, energies, kept))
            more_first = row["relevance_first_quarter"] - float(np.interp(here, energies, kept_first))
            compared.append({**row, "more": more, "more_first": more_first})
    seeds = Counter(row["x"] for row in compared)
    whole = [row for row in compared if seeds[row["x"]] == max(seeds.values())]
    difference = Rows({"jesa": whole})
    return sweep_table(
        "equal_energy",
        "Relevance that JESA keeps more than homogeneous selection where both spend the same (interpolated "
        "between z; a gamma0 is left out if no z spends as little)",
        figure.x_label("gamma0"),
        {
            "energy, mJ": scaled(difference.spread("jesa", "energy_j"), 1e3),
            "all layers": difference.spread("jesa", "more"),
            "first quarter of the layers": difference.spread("jesa", "more_first"),
        },
    )


def _two_panels(figure: Figure, rows: Rows) -> Drawing:
    return Drawing(
        [
            panel(
                figure,
                [_curve(figure, rows, name, column, scale) for name in _ordered(figure.curves)],
                title,
                y_label=y_label,
            )
            for title, y_label, column, scale in TWO
        ]
    )


def _ordered(curves: Curves) -> Sequence[str]:
    """Return the names of curves as legends and tables have them, policies of the user's own first."""
    place = {policy: number for number, policy in enumerate(ORDER)}
    return sorted(curves, key=lambda name: (place.get(curves[name].policy, -1), name))


def _of_k(figure: Figure, rows: Rows, name: str, column: str) -> Spread:
    """Return a top-k curve at the k that its settings name, or else at its first."""
    spread = rows.spread(name, column)
    index = spread.x.index(figure.curves[name].k) if figure.curves[name].k in spread.x else 0
    part = slice(index, index + 1)
    return Spread(spread.x[part], spread.mean[part], spread.deviation[part], spread.seeds)


def _curve(figure: Figure, rows: Rows, name: str, column: str, scale: float) -> Line:
    spread = scaled(rows.spread(name, column), scale)
    look = _look(figure, name)
    return Line(figure.label(name), spread.x, spread.mean, spread.deviation, look=look)


def _look(figure: Figure, curve: str) -> Look:
    """Return the look of a curve's policy; several curves of one policy differ in markers and dashes."""
    names = _ordered(figure.curves)
    rules = [figure.curves[name].policy.partition(":")[0] for name in names]
    return dict(zip(names, looks_of(rules), strict=True))[curve]


ENERGY_BY_IMPORTANCE = FigureKind(
    EnergySettings,
    COLUMNS,
    WithoutWorkspace(measure_sweep),
    draw_importance,
    importance_tables,
)
ENERGY_BY_LAYER = FigureKind(
    ByLayerSettings,
    LAYER_COLUMNS,
    WithoutWorkspace(measure_layers),
    draw_layers,
    layers_tables,
)
ENERGY_BY_MAX_EXPERTS = FigureKind(
    MaxExpertsSettings,
    COLUMNS,
    WithoutWorkspace(measure_sweep),
    draw_max_experts,
    max_experts_tables,
)
