"""Bits per byte and joules per byte of policies: against their parameter, by layer, and by subcarriers."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from torch import Tensor

from airmoe.language import MoeTransformer
from airmoe.language.protocol import TextCost, ask_text, faded_carriers
from airmoe.links import Ofdma, RayleighFading
from airmoe.nn.threads import one_thread
from airmoe.report.drawing import Drawing, Grid, Line, Look
from airmoe.report.style import looks_of
from airmoe.report.table import Cell, Mean, Table
from airmoe.studies.curves.figure import Figure, FigureKind, Workspace
from airmoe.studies.curves.panels import panel
from airmoe.studies.curves.rows import Row, Rows, scaled, sweep_table
from airmoe.studies.dmoe.models import all_domains, held_out, in_turn, mixture_of, placed
from airmoe.studies.dmoe.settings import (
    LayersSettings,
    PatternSettings,
    RadioSettings,
    SubcarriersSettings,
    TradeOffSettings,
)

Swept = TypeVar("Swept", bound=RadioSettings)

COLUMNS = ("bits_per_byte", "energy_j", "control_j", "experts", "away_share", "airtime_s")
TITLES = {
    "bits_per_byte": ("bits per byte", "", 1.0),
    "energy_j": ("energy of transfers and computing", "uJ per byte", 1e6),
    "control_j": ("energy of scores and decisions", "uJ per byte", 1e6),
    "experts": ("experts per byte and layer", "", 1.0),
    "away_share": ("experts asked on another node", "%", 1e2),
    "airtime_s": ("on the air", "ms per byte", 1e3),
}
"""What each column is called, its unit, and its scale."""


def asked(
    model: MoeTransformer,
    windows_WS: Tensor,
    settings: RadioSettings,
    policy: str | Sequence[str],
    seed: int,
    domains: int = 1,
) -> TextCost:
    """Return what a text took over the links of a curve; all policies meet the same ones.

    ``domains`` are how many it has, in turn.
    """
    radio = Ofdma(subcarriers=settings.subcarriers, charge_return=settings.charge_return)
    fading = RayleighFading(settings.experts, radio, settings.mean_snr_db, seed)
    carriers = faded_carriers(fading.at, settings.layers, exclusive=settings.exclusive)
    source_W = in_turn(len(windows_WS), settings.experts, domains)
    return ask_text(model, windows_WS, policy, carriers, source_W, seed=seed)


def row_of(cost: TextCost) -> dict[str, float]:
    """Return the columns of a row."""
    pairs = sum(int(layer.pairs_NE.sum()) for layer in cost.layers)
    return {
        "bits_per_byte": cost.bits_per_byte,
        "energy_j": cost.energy_j_per_token,
        "control_j": cost.control_j_per_token,
        "experts": cost.experts_per_token,
        "away_share": sum(layer.away for layer in cost.layers) / max(pairs, 1),
        "airtime_s": sum(layer.airtime_s for layer in cost.layers) / cost.layers[0].tokens,
    }


def measure_trade_off(settings: TradeOffSettings, seed: int, work: Workspace) -> Iterator[Row]:
    """Yield what the held-out texts of all domains took at every value of a policy's parameter."""
    yield from _swept(settings, seed, work, lambda at: settings.policy_at(at.parameter))


def measure_layers(settings: LayersSettings, seed: int, work: Workspace) -> Iterator[Row]:
    """Yield what they took where one layer alone has the other policy."""

    def policies(at: LayersSettings) -> list[str]:
        return [at.weakened if layer == at.layer else at.policy for layer in range(1, at.layers + 1)]

    yield from _swept(settings, seed, work, policies)


def measure_subcarriers(settings: SubcarriersSettings, seed: int, work: Workspace) -> Iterator[Row]:
    """Yield what they took with every number of subcarriers."""
    yield from _swept(settings, seed, work, lambda at: at.policy)


def _swept(
    settings: Swept, seed: int, work: Workspace, policy_of: Callable[[Swept], str | Sequence[str]]
) -> Iterator[Row]:
    with one_thread():
        model = placed(mixture_of(settings, seed, work).model, settings, seed)
        windows = held_out(settings)
        windows_WS = all_domains(windows)
        for value in settings.values:
            at = settings.at(value)
            cost = asked(model, windows_WS, at, policy_of(at), seed, len(windows))
            yield {"x": value, "seed": seed, **row_of(cost)}


def measure_pattern(settings: PatternSettings, seed: int, work: Workspace) -> Iterator[Row]:
    """Yield the share of a domain's bytes that each expert of each layer gets."""
    settings = settings.at(settings.values[0])
    with one_thread():
        model = placed(mixture_of(settings, seed, work).model, settings, seed)
        cost = asked(model, held_out(settings)[settings.domain], settings, settings.policy, seed)
    for layer in cost.layers:
        for expert, pairs in enumerate(layer.pairs_NE.sum(axis=0).tolist()):
            pair = (layer.layer - 1) * settings.experts + expert
            yield {"x": float(pair), "seed": seed, "share": pairs / layer.tokens}


def draw_trade_off(figure: Figure, rows: Rows) -> dict[str, Drawing]:
    """Return bits per byte against joules per byte, a point for each value."""
    lines = []
    for name, look in zip(figure.curves, _looks(figure), strict=True):
        bits = rows.spread(name, "bits_per_byte")
        energy = scaled(rows.spread(name, "energy_j"), 1e6)
        lines.append(Line(figure.label(name), energy.mean, bits.mean, bits.deviation, energy.deviation, look))
    x_label = "transfers and computing, uJ per byte"
    return {"trade_off": Drawing([panel(figure, lines, x_label=x_label, y_label="bits per byte")])}


def _looks(figure: Figure) -> list[Look]:
    return looks_of([curve.look for curve in figure.curves.values()])


def draw_sweep(figure: Figure, rows: Rows) -> dict[str, Drawing]:
    """Return bits per byte and joules per byte against what is swept."""
    panels = []
    for column in ("bits_per_byte", "energy_j"):
        title, unit, scale = TITLES[column]
        lines = []
        for name, look in zip(figure.curves, _looks(figure), strict=True):
            spread = scaled(rows.spread(name, column), scale)
            lines.append(Line(figure.label(name), spread.x, spread.mean, spread.deviation, look=look))
        panels.append(panel(figure, lines, y_label=f"{title}, {unit}" if unit else title))
    return {"": Drawing(panels)}


def tables(figure: Figure, rows: Rows) -> list[Table]:
    """Return a table for each column."""
    x_label = figure.x_label(next(iter(figure.curves.values())).swept)
    return [
        sweep_table(
            column,
            title,
            x_label,
            {figure.label(name): scaled(rows.spread(name, column), scale) for name in figure.curves},
            unit=unit,
        )
        for column, (title, unit, scale) in TITLES.items()
    ]


def tables_of_points(figure: Figure, rows: Rows) -> list[Table]:
    """Return a line for each policy and value of its parameter."""
    header = ["policy", *(f"{title}, {unit}" if unit else title for title, unit, _ in TITLES.values())]
    lines = list[list[Cell]]()
    for name, curve in figure.curves.items():
        spreads = [scaled(rows.spread(name, column), scale) for column, (_, _, scale) in TITLES.items()]
        for index, value in enumerate(spreads[0].x):
            policy = curve.policy_at(value) + ("" if curve.exclusive else ", LB")
            lines.append([policy, *(Mean(each.mean[index], each.deviation[index]) for each in spreads)])
    return [Table("methods", "Bits per byte and what they take", header, lines)]


def draw_pattern(figure: Figure, rows: Rows) -> dict[str, Drawing]:
    """Return a grid for each domain: a row per layer, a column per expert."""
    grids = []
    for name, curve in figure.curves.items():
        share_LE = 100 * np.reshape(rows.spread(name, "share").mean, (-1, curve.experts))
        experts = [str(expert) for expert in range(curve.experts)]
        lines = [
            Line(str(layer + 1), list(range(curve.experts)), share_E)
            for layer, share_E in enumerate(share_LE.tolist())
        ]
        grids.append(Grid(figure.label(name), figure.x_label("expert"), "layer", "%", experts, lines))
    return {"": Drawing(grids)}


def tables_of_pattern(figure: Figure, rows: Rows) -> list[Table]:
    """Return a table for each domain: a row per layer, a column per expert."""
    found = []
    for name, curve in figure.curves.items():
        spread = scaled(rows.spread(name, "share"), 100)
        cells = [Mean(mean, deviation) for mean, deviation in zip(spread.mean, spread.deviation, strict=True)]
        lines: list[list[Cell]] = [
            [str(layer + 1), *cells[layer * curve.experts : (layer + 1) * curve.experts]]
            for layer in range(curve.layers)
        ]
        header = [figure.x_label("layer"), *(f"expert {expert}" for expert in range(curve.experts))]
        found.append(Table(name, f"Bytes of {figure.label(name)} that an expert gets", header, lines, "%"))
    return found


TRADE_OFF = FigureKind(TradeOffSettings, COLUMNS, measure_trade_off, draw_trade_off, tables_of_points)
LAYERS = FigureKind(LayersSettings, COLUMNS, measure_layers, draw_sweep, tables)
SUBCARRIERS = FigureKind(SubcarriersSettings, COLUMNS, measure_subcarriers, draw_sweep, tables)
PATTERN = FigureKind(PatternSettings, ("share",), measure_pattern, draw_pattern, tables_of_pattern)
