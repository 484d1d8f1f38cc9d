"""The mixture beside its baselines: macro-F1 against how much stays local."""

from collections.abc import Iterator

from airmoe.networked.baseline_table import Setting, measure_method
from airmoe.networked.client_data import ClientData
from airmoe.networked.config import NetworkedConfig
from airmoe.networked.stages import NetworkedMoe
from airmoe.nn.threads import one_thread
from airmoe.report.drawing import Drawing, Line
from airmoe.report.style import looks_of
from airmoe.report.table import Cell, Mean, Table
from airmoe.studies.curves.figure import Figure, FigureKind, Workspace
from airmoe.studies.curves.panels import panel
from airmoe.studies.curves.rows import Row, Rows, Spread, scaled
from airmoe.studies.networked.mixtures import COLUMNS, TITLES, row_of
from airmoe.studies.networked.models import images_of, trained_mixture
from airmoe.studies.networked.settings import BaselineSettings


def measure(settings: BaselineSettings, seed: int, work: Workspace) -> Iterator[Row]:
    """Yield the scores of one method; methods that share a mixture train it once."""
    (clients,) = settings.values
    at, images = settings.at(clients), images_of(settings, work)

    def mixture(config: NetworkedConfig, data: ClientData) -> NetworkedMoe:
        return trained_mixture(config, images, work)[0]

    with one_thread():
        setting = Setting(at.training(seed), images, mixture, work.progress, settings.central_epochs)
        line = measure_method(settings.method, setting)
    yield {"x": clients, "seed": seed, **row_of(line.scores, line.training_bytes)}


def draw(figure: Figure, rows: Rows) -> dict[str, Drawing]:
    """Return a point for each method: macro-F1 against the local share of own classes."""
    points = []
    looks = looks_of([curve.method for curve in figure.curves.values()])
    for name, look in zip(figure.curves, looks, strict=True):
        local, f1 = (scaled(rows.spread(name, column), 100) for column in ("own_local_share", "macro_f1"))
        points.append(Line(figure.label(name), local.mean, f1.mean, f1.deviation, local.deviation, look))
    x_label, y_label = ("{}, {}".format(*TITLES[column]) for column in ("own_local_share", "macro_f1"))
    return {"trade_off": Drawing([panel(figure, points, x_label=x_label, y_label=y_label)])}


def tables(figure: Figure, rows: Rows) -> list[Table]:
    """Return a line for each method."""
    header = ["method", *("{}, {}".format(*TITLES[column]) for column in COLUMNS)]
    lines = list[list[Cell]]()
    for name in figure.curves:
        spreads = [
            scaled(rows.spread(name, column), 100 if TITLES[column][1] == "%" else 1) for column in COLUMNS
        ]
        lines.append([figure.label(name), *map(_cell, spreads)])
    return [Table("methods", "Methods on the same data and budget", header, lines)]


def _cell(spread: Spread) -> Cell:
    return Mean(spread.mean[0], spread.deviation[0])


BASELINES = FigureKind(BaselineSettings, COLUMNS, measure, draw, tables)
