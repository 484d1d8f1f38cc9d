"""Bits per byte of the mixture beside its experts alone, its seed, and the seed trained on."""

from collections.abc import Iterator

import torch

from airmoe.language import MoeTransformer
from airmoe.language.measure import bits_per_byte
from airmoe.nn.threads import one_thread
from airmoe.report.drawing import Drawing, Line
from airmoe.report.style import looks_of
from airmoe.report.table import Cell, Mean, Table
from airmoe.studies.curves.figure import Figure, FigureKind, Workspace
from airmoe.studies.curves.panels import panel
from airmoe.studies.curves.rows import Row, Rows
from airmoe.studies.dmoe.models import dense_of, held_out, mixture_of, texts_of
from airmoe.studies.dmoe.settings import QualitySettings


def measure(settings: QualitySettings, seed: int, work: Workspace) -> Iterator[Row]:
    """Yield bits per byte of each domain, and their mean: every domain counts alike."""
    with one_thread():
        model, k = _model_of(settings, seed, work)

        def logits_of(tokens_BS: torch.Tensor) -> torch.Tensor:
            return model(tokens_BS, policy=f"topk:{k}").logits_BSV  # type: ignore[no-any-return]

        found = [bits_per_byte(logits_of, windows_WS) for windows_WS in held_out(settings)]
    for domain, bits in enumerate([*found, sum(found) / len(found)]):
        yield {"x": float(domain), "seed": seed, "bits_per_byte": bits}


def _model_of(settings: QualitySettings, seed: int, work: Workspace) -> tuple[MoeTransformer, int]:
    """Return the model of a method, and its experts per byte."""
    made = mixture_of(settings, seed, work)
    if settings.method == "mixture":
        return made.model, settings.k
    if settings.method == "expert":
        return made.model.alone(settings.expert), 1
    if settings.method == "seed":
        return made.seed, 1
    steps = settings.branch_steps
    if settings.method == "dense-all":
        steps = settings.experts * settings.branch_steps + settings.mix_steps
    return dense_of(settings, seed, steps, work), 1


def draw(figure: Figure, rows: Rows) -> dict[str, Drawing]:
    """Return bits per byte of each domain and of all, by method."""
    lines = []
    for name, look in zip(
        figure.curves, looks_of([curve.method for curve in figure.curves.values()]), strict=True
    ):
        spread = rows.spread(name, "bits_per_byte")
        lines.append(Line(figure.label(name), spread.x, spread.mean, spread.deviation, look=look))
    x_label = figure.x_label("domain; the last: all")
    return {"": Drawing([panel(figure, lines, x_label=x_label, y_label="bits per byte")])}


def tables(figure: Figure, rows: Rows) -> list[Table]:
    """Return a line for each method."""
    data = next(iter(figure.curves.values())).data
    header = ["model", *(domain.name for domain in texts_of(data).domains), "all, each alike"]
    lines = list[list[Cell]]()
    for name in figure.curves:
        spread = rows.spread(name, "bits_per_byte")
        cells = [Mean(mean, deviation) for mean, deviation in zip(spread.mean, spread.deviation, strict=True)]
        lines.append([figure.label(name), *cells])
    return [Table("methods", "Bits per byte of held-out texts", header, lines)]


QUALITY = FigureKind(QualitySettings, ("bits_per_byte",), measure, draw, tables)
