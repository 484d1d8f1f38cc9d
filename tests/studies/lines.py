"""A study of lines that is over at once, in a module that worker processes can import."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from airmoe.report.drawing import Drawing, Line, Panel
from airmoe.report.table import Table
from airmoe.studies.curves import (
    Curves,
    CurveSettings,
    Figure,
    FigureKind,
    Row,
    Rows,
    Study,
    WithoutWorkspace,
    Workspace,
)
from airmoe.studies.curves.rows import sweep_table
from airmoe.studies.curves.settings import Seeds, Values


class LineSettings(CurveSettings):
    """A line, x times slope plus the seed."""

    SCALES: ClassVar[Mapping[str, Mapping[str, Any]]] = {"smoke": {"seeds": 1}}

    slope: float = 1.0
    x: float = 0.0
    seeds: Seeds = 2
    swept: str = "x"
    values: Values = (1.0, 2.0)


def measure_line(settings: LineSettings, seed: int) -> Iterator[Row]:
    for x in settings.values:
        yield {"x": x, "seed": seed, "y": settings.slope * x + seed}


def measure_process(settings: LineSettings, seed: int) -> Iterator[Row]:
    """The process that measures."""
    for x in settings.values:
        yield {"x": x, "seed": seed, "y": os.getpid()}


def measure_by_model(settings: LineSettings, seed: int, work: Workspace) -> Iterator[Row]:
    """As `measure_line`, of a "model" that all curves of a seed share; what is trained is told."""
    model, log = work.folder / "models" / f"{seed}.txt", work.folder / "logs" / f"{seed}.txt"
    with work.locked(f"model {seed}"):
        if not model.exists():
            work.progress(f"training {seed} on {work.options.get('data_dir', 'nothing')}", 1, 1)
            for path in (model, log):
                path.parent.mkdir(exist_ok=True)
                path.write_text(str(seed), encoding="utf-8")
    yield from measure_line(settings, int(model.read_text(encoding="utf-8")))


def draw(figure: Figure, rows: Rows) -> dict[str, Drawing]:
    lines = [Line(name, rows.spread(name, "y").x, rows.spread(name, "y").mean) for name in figure.curves]
    return {"": Drawing([Panel("", "x", "y", lines)])}


def tables(figure: Figure, rows: Rows) -> list[Table]:
    return [sweep_table("y", "Lines", "x", {name: rows.spread(name, "y") for name in figure.curves})]


def told(curves: Mapping[str, Curves], rows: Mapping[str, Rows]) -> list[str]:
    return [
        f"{figure} {name} {rows[figure].spread(name, 'y').mean}"
        for figure in curves
        for name in curves[figure]
    ]


FIGURES = {
    # the file of each figure
    "lines": """
title = "Lines"
kind = "line"
number = 1
scales = ["full", "quick", "smoke", "gpu"]
[curves.a]
slope = 1.0
[curves.b]
slope = 2.0
""",
    "modelled": """
title = "Models"
kind = "model"
number = 2
scales = ["full", "smoke", "gpu"]
[curves.a]
slope = 1.0
[curves.b]
slope = 2.0
""",
    "large": """
title = "Large"
kind = "model"
number = 3
scales = ["gpu"]
[curves.a]
slope = 1.0
[curves.a.gpu]
values = [100]
[curves.b]
slope = 2.0
""",
}


def write_figures(folder: Path, **texts: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    return folder


def study_of_lines(folder: Path) -> Study:
    """A study of lines that is over at once; ``folder`` holds its figures."""
    return Study(
        name="lines",
        title="Study of lines",
        kinds={
            "line": FigureKind(LineSettings, ("y",), WithoutWorkspace(measure_line), draw, tables),
            "process": FigureKind(LineSettings, ("y",), WithoutWorkspace(measure_process), draw, tables),
            "time": FigureKind(
                LineSettings, ("y",), WithoutWorkspace(measure_process), draw, tables, timed=True
            ),
            "model": FigureKind(LineSettings, ("y",), measure_by_model, draw, tables),
        },
        folder=write_figures(folder, **FIGURES),
        packages=("airmoe", "numpy"),
        told=told,
        scales=("full", "quick", "smoke", "gpu"),
        keeps=("models",),
    )
