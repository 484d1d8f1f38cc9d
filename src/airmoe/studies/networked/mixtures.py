"""Scores of networked mixtures against a setting: experts per image, rounds, clients."""

from collections.abc import Iterator

import numpy as np

from airmoe.networked.routing import expert_answers, pattern
from airmoe.networked.scores import Scores
from airmoe.nn.threads import one_thread
from airmoe.report.drawing import Drawing, Grid, Line
from airmoe.report.style import looks_of
from airmoe.report.table import Cell, Mean, Table, deviation_of
from airmoe.studies.curves.figure import Figure, FigureKind, Workspace
from airmoe.studies.curves.panels import panel
from airmoe.studies.curves.rows import Row, Rows, scaled, sweep_table
from airmoe.studies.networked.models import images_of, trained_mixture
from airmoe.studies.networked.settings import MixtureSettings, PatternSettings

SCORES = ("macro_f1", "own_f1", "own_local_share", "local_share")
COLUMNS = (*SCORES, "megabytes")
TITLES = {
    "macro_f1": ("macro-F1", "%"),
    "own_f1": ("macro-F1 of own classes", "%"),
    "own_local_share": ("local share of own classes", "%"),
    "local_share": ("local share", "%"),
    "megabytes": ("exchanged in training, per client", "MB"),
}
"""What each column is called, and its unit."""


def row_of(scores: Scores, nbytes: float) -> dict[str, float]:
    """Return the columns of a row: scores, and the bytes that a client exchanged in training."""
    return {**{name: getattr(scores, name) for name in SCORES}, "megabytes": nbytes / 1e6}


def measure(settings: MixtureSettings, seed: int, work: Workspace) -> Iterator[Row]:
    """Yield the scores of a seed's mixture at every value of what is swept."""
    with one_thread():  # sums of floats depend on the number of threads, which rows must not
        config, answers, nbytes = None, None, 0.0
        for value in settings.values:
            at = settings.at(value)
            if answers is None or at.training(seed) != config:  # another k asks the same mixture
                config = at.training(seed)
                trained, data = trained_mixture(config, images_of(at, work), work)
                answers = expert_answers(trained.model, data)
                nbytes = sum(float(row["bytes"]) for row in trained.rows) / at.clients
            yield {"x": value, "seed": seed, **row_of(answers.by_gate(at.k), nbytes)}


def draw(figure: Figure, rows: Rows) -> dict[str, Drawing]:
    """Return macro-F1 and the local share of own classes."""
    panels = []
    for column in ("macro_f1", "own_local_share"):
        drawn = []
        for name, look in zip(figure.curves, looks_of(list(figure.curves)), strict=True):
            spread = scaled(rows.spread(name, column), 100)
            drawn.append(Line(figure.label(name), spread.x, spread.mean, spread.deviation, look=look))
        title, unit = TITLES[column]
        panels.append(panel(figure, drawn, y_label=f"{title}, {unit}"))
    return {"": Drawing(panels)}


def tables(figure: Figure, rows: Rows) -> list[Table]:
    """Return a table for each column."""
    x_label = figure.x_label(next(iter(figure.curves.values())).swept)
    found = []
    for column, (title, unit) in TITLES.items():
        scale = 100 if unit == "%" else 1
        spreads = {figure.label(name): scaled(rows.spread(name, column), scale) for name in figure.curves}
        found.append(sweep_table(column, title, x_label, spreads, unit=unit))
    return found


MIXTURE = FigureKind(MixtureSettings, COLUMNS, measure, draw, tables)


def measure_pattern(settings: PatternSettings, seed: int, work: Workspace) -> Iterator[Row]:
    """Yield the share of each client's own-class images that each expert gets."""
    at = settings.at(settings.values[0])
    with one_thread():
        trained, data = trained_mixture(at.training(seed), images_of(at, work), work)
        share_NE = pattern(expert_answers(trained.model, data))
    for pair, share in enumerate(share_NE.ravel().tolist()):
        yield {"x": float(pair), "seed": seed, "share": share}


def draw_pattern(figure: Figure, rows: Rows) -> dict[str, Drawing]:
    """Return a grid for each curve: a row per client, a column per expert."""
    x_label, grids = figure.x_label("expert"), []
    for name in figure.curves:
        mean_NE = 100 * _square(rows.spread(name, "share").mean)
        experts = [str(expert) for expert in range(len(mean_NE))]
        curves = [
            Line(str(client), list(range(len(experts))), share_E)
            for client, share_E in enumerate(mean_NE.tolist())
        ]
        grids.append(Grid(figure.label(name), x_label, "client", "%", experts, curves))
    return {"": Drawing(grids)}


def tables_of_pattern(figure: Figure, rows: Rows) -> list[Table]:
    """Return a table for each curve: the share that stays, and the largest that goes to one other expert."""
    cells = list[list[Cell]]()
    for name in figure.curves:
        by_seed = dict[float, list[float]]()
        for row in rows.of(name):
            by_seed.setdefault(row["seed"], []).append(row["share"])
        squares = [_square(shares) for shares in by_seed.values()]
        stay = [100 * float(np.diag(share_NE).mean()) for share_NE in squares]
        away = [
            100 * float((share_NE - np.diag(np.diag(share_NE))).max(axis=1).mean()) for share_NE in squares
        ]
        cells.append([figure.label(name), *(Mean(float(np.mean(v)), deviation_of(v)) for v in (stay, away))])
    header = [figure.x_label("expert"), "the own one", "the one that gets most of the rest"]
    return [Table("pattern", "Share of a client's own-class images that an expert gets", header, cells, "%")]


def _square(shares: list[float]) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    clients = round(len(shares) ** 0.5)
    return np.reshape(shares, (clients, clients))


PATTERN = FigureKind(PatternSettings, ("share",), measure_pattern, draw_pattern, tables_of_pattern)
