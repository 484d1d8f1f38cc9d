"""Accuracy of methods against a property of the links."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from airmoe.nn.threads import one_thread
from airmoe.report.drawing import Drawing, Line
from airmoe.report.style import looks_of
from airmoe.report.table import Table
from airmoe.studies.curves.figure import Figure, FigureKind, Workspace
from airmoe.studies.curves.panels import panel
from airmoe.studies.curves.rows import Row, Rows, scaled, sweep_table
from airmoe.studies.curves.settings import Experts, Values
from airmoe.studies.gating.asking import Answers, ask_over_links
from airmoe.studies.gating.models import Asked
from airmoe.studies.gating.settings import Backbone, Epochs, GatingSettings, Shift, Size, Width

SMOKE = {
    "data": "digits",
    "flip": False,
    "seeds": 1,
    "train_images": 200,
    "test_images": 100,
    "clean_epochs": 1,
    "channel_epochs": 1,
    "batch_size": 32,
    "values": (0, 10),
}
QUICK = {
    "data": "digits",
    "flip": False,
    "shift": 2,
    "seeds": 3,
    "clean_epochs": 5,
    "channel_epochs": 4,
    "batch_size": 32,
}


class LeNetSettings(GatingSettings):
    """LeNet-5; quick and smoke use digits."""

    SCALES: ClassVar[Mapping[str, Mapping[str, Any]]] = {"quick": QUICK, "smoke": SMOKE}


class ResNetSettings(GatingSettings):
    """ResNet-18 of width 16, for a processor."""

    SCALES: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {
            **QUICK,
            "seeds": 1,
            "train_images": 400,
            "width": 4,
            "experts": 4,
            "clean_epochs": 2,
            "channel_epochs": 2,
            "values": (0, 10),
        },
        "smoke": {**SMOKE, "seeds": 1, "width": 4, "experts": 4, "train_images": 64},
    }

    backbone: Backbone = "resnet18"
    width: Width = 16
    experts: Experts = 8
    shift: Shift = 4
    train_images: Size = 20_000
    clean_epochs: Epochs = 5
    channel_epochs: Epochs = 3
    values: Values = (-5, 0, 5, 10, 20)
    test_images: Size = 4000


class GpuSettings(GatingSettings):
    """ResNet-18 of full width and ViT on both CIFARs, for a GPU."""

    backbone: Backbone = "resnet18"
    experts: Experts = 8
    shift: Shift = 4
    clean_epochs: Epochs = 60
    channel_epochs: Epochs = 30


def measure(settings: GatingSettings, seed: int, work: Workspace) -> Iterator[Row]:
    """Yield the accuracy of a seed's model at every point of the curve, and who was asked there."""
    with one_thread():  # sums of floats depend on the number of threads, which rows must not
        asked: Asked | None = None
        for point, value in enumerate(settings.values):
            at_value = settings.at(value)
            training = at_value.training(seed)
            if asked is None or asked.training != training:
                asked = Asked(training, settings.test_images, work)
            answers = ask_over_links(asked, at_value, seed, 0 if settings.sweeps_training else point)
            yield {"x": value, "seed": seed, **summary(answers)}


COLUMNS = ("accuracy", "chosen_snr_db", "first_share", "least_share", "largest_share")


def summary(answers: Answers) -> dict[str, float]:
    """Return accuracy, the mean SNR of the links used, and the experts' shares of all answers."""
    share_E = answers.chosen_TE.sum(axis=0) / max(answers.chosen_TE.sum(), 1)
    used = answers.snr_db_TE[answers.chosen_TE]
    return {
        "accuracy": float(answers.right_T.mean()),
        "chosen_snr_db": float(used.mean()) if used.size else np.nan,
        "first_share": float(share_E[0]),
        "least_share": float(share_E.min()),
        "largest_share": float(share_E.max()),
    }


def draw(figure: Figure, rows: Rows) -> dict[str, Drawing]:
    """Return accuracy, and also the share of the expert behind the bad link where one is bad."""
    shown = {"accuracy": ""}
    if _one_link_is_bad(figure):
        shown["first_share"] = "share of the expert behind it, %"
    looks = looks_of([curve.method for curve in figure.curves.values()])
    panels = []
    for column, y_label in shown.items():
        drawn = []
        for name, look in zip(figure.curves, looks, strict=True):
            spread = scaled(rows.spread(name, column), 100)
            drawn.append(Line(figure.label(name), spread.x, spread.mean, spread.deviation, look=look))
        panels.append(panel(figure, drawn, y_label=y_label))
    return {"": Drawing(panels)}


def tables(figure: Figure, rows: Rows) -> list[Table]:
    """Return the accuracy of every method, and the mean SNR of the links that it used."""
    x_label = figure.x_label(next(iter(figure.curves.values())).swept)
    accuracy = {figure.label(name): scaled(rows.spread(name, "accuracy"), 100) for name in figure.curves}
    used = {figure.label(name): rows.spread(name, "chosen_snr_db") for name in figure.curves}
    found = [
        sweep_table("accuracy", "Accuracy", x_label, accuracy, unit="%"),
        sweep_table("used_links", "Mean SNR of the links that were used", x_label, used, unit="dB"),
    ]
    if _one_link_is_bad(figure):
        share = {figure.label(name): scaled(rows.spread(name, "first_share"), 100) for name in figure.curves}
        found.append(
            sweep_table("share", "Share of the expert behind the bad link", x_label, share, unit="%")
        )
    return found


def _one_link_is_bad(figure: Figure) -> bool:
    return {curve.swept for curve in figure.curves.values()} == {"bad_db"}


ACCURACY = FigureKind(LeNetSettings, COLUMNS, measure, draw, tables)
ACCURACY_RESNET18 = FigureKind(ResNetSettings, COLUMNS, measure, draw, tables)
ACCURACY_GPU = FigureKind(GpuSettings, COLUMNS, measure, draw, tables)
