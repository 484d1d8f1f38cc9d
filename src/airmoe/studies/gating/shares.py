"""How often a gate chooses an expert, against the SNR of the expert's own link."""

from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from airmoe.nn.threads import one_thread
from airmoe.report.drawing import Drawing, Line
from airmoe.report.style import looks_of
from airmoe.report.table import Table, with_spread
from airmoe.studies.curves.figure import Figure, FigureKind, Workspace
from airmoe.studies.curves.panels import panel
from airmoe.studies.curves.rows import Row, Rows, scaled, sweep_table
from airmoe.studies.curves.settings import Decibels, Values
from airmoe.studies.gating.accuracy import LeNetSettings
from airmoe.studies.gating.asking import ask_over_links
from airmoe.studies.gating.models import Asked


class ExpertShareSettings(LeNetSettings):
    """Shares under the law of training; the sweep walks through the SNR of an expert's own link.

    Attributes:
        own_snr_db: middle of the interval that the expert's own SNR lies in.
        interval_db: its width.
    """

    swept: Literal["own_snr_db"] = "own_snr_db"  # type: ignore[assignment]
    values: Values = (-3.75, -1.25, 1.25, 3.75, 6.25, 8.75, 11.25, 13.75, 16.25, 18.75)
    law: str = "uniform:-5:20"
    own_snr_db: Decibels = 0.0
    interval_db: Annotated[float, Field(gt=0, le=100)] = 2.5


def measure(settings: ExpertShareSettings, seed: int, work: Workspace) -> Iterator[Row]:
    """Yield how often an expert is chosen while its own SNR lies in each interval: mean over the experts."""
    with one_thread():  # sums of floats depend on the number of threads, which rows must not
        asked = Asked(settings.training(seed), settings.test_images, work)
        answers = ask_over_links(asked, settings, seed, 0)
    overall_E = answers.chosen_TE.mean(axis=0) / settings.k
    for value in settings.values:
        inside_TE = np.abs(answers.snr_db_TE - value) <= settings.interval_db / 2
        with np.errstate(invalid="ignore"):  # an interval outside the law has no share
            chosen_E = (answers.chosen_TE & inside_TE).sum(axis=0) / inside_TE.sum(axis=0)
        yield {
            "x": value,
            "seed": seed,
            "share": float(chosen_E.mean() / settings.k),
            "least_share": float(overall_E.min()),
            "largest_share": float(overall_E.max()),
        }


def draw(figure: Figure, rows: Rows) -> dict[str, Drawing]:
    """Return the share against the own SNR."""
    drawn = []
    looks = looks_of([curve.method for curve in figure.curves.values()])
    for name, look in zip(figure.curves, looks, strict=True):
        share = scaled(rows.spread(name, "share"), 100)
        drawn.append(Line(figure.label(name), share.x, share.mean, share.deviation, look=look))
    return {"": Drawing([panel(figure, drawn)])}


def tables(figure: Figure, rows: Rows) -> list[Table]:
    """Return shares against the own SNR, and the smallest and largest share of an expert overall."""
    share = {figure.label(name): scaled(rows.spread(name, "share"), 100) for name in figure.curves}
    overall = []
    for column, title in (("least_share", "smallest"), ("largest_share", "largest")):
        spreads = {figure.label(name): scaled(rows.spread(name, column), 100) for name in figure.curves}
        cells = ", ".join(
            f"{label} {with_spread(spread.mean[0], spread.deviation[0])} %"
            for label, spread in spreads.items()
        )
        overall.append(f"The {title} share of an expert overall: {cells}.")
    note = "\n\n".join(overall)
    x_label = figure.x_label("SNR of its own link, dB")
    return [sweep_table("share", "Share of an expert", x_label, share, unit="%", note=note)]


SHARES = FigureKind(ExpertShareSettings, ("share", "least_share", "largest_share"), measure, draw, tables)
