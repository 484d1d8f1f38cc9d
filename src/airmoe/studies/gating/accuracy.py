"""Accuracy of methods against a property of the links."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

import numpy as np

from airmoe.report.panels import Line, Panel, draw_panels
from airmoe.studies.curves.figure import Curves, Figure, Workspace, label_of
from airmoe.studies.curves.rows import Row, Rows, scaled, sweep_table
from airmoe.studies.curves.settings import Experts, Values
from airmoe.studies.gating.asking import Outcome, ask_over_links
from airmoe.studies.gating.models import Asked
from airmoe.studies.gating.settings import Epochs, GatingSettings, Shift, Size, Width

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

X_LABELS = {
    "mean_snr_db": "mean SNR of the links, dB",
    "spread_db": "spread of the links, dB",
    "bad_db": "SNR of the one bad link, dB",
    "delay_slots": "age of what the gate sees, images",
    "error_db": "error of what the gate sees, dB",
}


class LeNetSettings(GatingSettings):
    """LeNet-5; digits where it has to be quick."""

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

    backbone: Literal["lenet5", "resnet18", "vit"] = "resnet18"
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

    backbone: Literal["lenet5", "resnet18", "vit"] = "resnet18"
    experts: Experts = 8
    shift: Shift = 4
    clean_epochs: Epochs = 60
    channel_epochs: Epochs = 30


def measure(settings: GatingSettings, seed: int, work: Workspace) -> Iterator[Row]:
    """Yield the accuracy of a seed's model at every point of the curve, and who was asked there."""
    asked = Asked(settings.training(seed), settings.test_images, work)
    for point, value in enumerate(settings.values):
        outcome = ask_over_links(asked, settings.at(value), seed, point)
        yield {"x": value, "seed": seed, **summary(outcome)}


COLUMNS = ("accuracy", "chosen_snr_db", "first_share", "least_share", "largest_share")


def summary(outcome: Outcome) -> dict[str, float]:
    """Return accuracy, the mean SNR of the links used, and shares of experts among those that answered."""
    share_E = outcome.chosen_TE.sum(axis=0) / max(outcome.chosen_TE.sum(), 1)
    used = outcome.snr_db_TE[outcome.chosen_TE]
    return {
        "accuracy": float(outcome.right_T.mean()),
        "chosen_snr_db": float(used.mean()) if used.size else np.nan,
        "first_share": float(share_E[0]),
        "least_share": float(share_E.min()),
        "largest_share": float(share_E.max()),
    }


def draw(curves: Curves, rows: Rows) -> dict[str, str]:
    """Return accuracy, and where one link is bad the share of its expert, too."""
    swept = next(iter(curves.values())).swept
    shown = {"accuracy": "accuracy, %"}
    if swept == "bad_db":
        shown["first_share"] = "share of the expert behind it, %"
    panels = []
    for column, y_label in shown.items():
        drawn = []
        for name in curves:
            spread = scaled(rows.spread(name, column), 100)
            drawn.append(Line(label_of(curves, name), spread.x, spread.mean, spread.deviation))
        panels.append(Panel("", X_LABELS[swept], y_label, drawn))
    return {"": draw_panels(panels, (6.2, 4.4) if len(panels) == 1 else (4.7, 3.8))}


def tables(curves: Curves, rows: Rows) -> str:
    """Return the accuracy of every method, and the mean SNR of the links that it used."""
    swept = next(iter(curves.values())).swept
    x_label = X_LABELS[swept].rpartition(",")[0]
    accuracy = {label_of(curves, name): scaled(rows.spread(name, "accuracy"), 100) for name in curves}
    used = {label_of(curves, name): rows.spread(name, "chosen_snr_db") for name in curves}
    text = f"Accuracy, %:\n\n{sweep_table(x_label, accuracy)}"
    text += f"\nMean SNR of the links that were used, dB:\n\n{sweep_table(x_label, used)}"
    if swept == "bad_db":
        share = {label_of(curves, name): scaled(rows.spread(name, "first_share"), 100) for name in curves}
        text += f"\nShare of the expert behind the bad link, %:\n\n{sweep_table(x_label, share)}"
    return text


def accuracy_figure(
    title: str, settings: type[GatingSettings] = LeNetSettings, scales: tuple[str, ...] = ()
) -> Figure:
    """Return the figure of this title with these settings; ``scales`` as in `Figure`."""
    return Figure(title, settings, COLUMNS, measure, draw, tables, scales or ("full", "quick", "smoke"))
