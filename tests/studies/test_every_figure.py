"""Every figure of every study can be read: nothing leaves the canvas, nothing lies over something else."""

import importlib
import pkgutil
from dataclasses import replace

import numpy as np
import pytest

import airmoe.studies
from airmoe.report.drawing import Drawing, Line, Look, Network, Panel
from airmoe.report.style import LOOKS
from airmoe.studies.curves.figure import Figure
from airmoe.studies.curves.rows import Row, Rows
from airmoe.studies.curves.study import Study
from tests.report.legibility import faults


def studies() -> list[Study]:
    """Every study there is, found by looking into all of `airmoe.studies`."""
    found: dict[str, Study] = {}
    packages = pkgutil.iter_modules(airmoe.studies.__path__, "airmoe.studies.")
    for module in (each for each in packages if each.ispkg):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, Study):
                found[value.name] = value
    return list(found.values())


def made_up_rows(study: Study, figure: Figure, seeds: int = 2) -> Rows:
    """Some seeds of every value of every curve, as in the full study."""
    random = np.random.default_rng(0)
    columns = study.kind_of(figure).columns

    def row(x: float, seed: int) -> Row:
        return {"x": x, "seed": seed, **{name: random.uniform(0.001, 1.0) for name in columns}}

    return Rows(
        {
            name: [row(x, seed) for seed in range(seeds) for x in curve.x_values]
            for name, curve in figure.curves.items()
        }
    )


EVERY = [
    (study, name, scale)
    for study in studies()
    for name in study.figures
    for scale in study.figures[name].scales[:1]
]


@pytest.mark.parametrize(("study", "name", "scale"), EVERY, ids=[f"{s.name}-{n}-{at}" for s, n, at in EVERY])
def test_no_table_of_one_seed_has_a_deviation(study: Study, name: str, scale: str) -> None:
    figure = study.read(name, scale)
    rows = made_up_rows(study, figure, seeds=1)
    for table in study.kind_of(figure).tables(figure, rows):
        assert "±" not in table.markdown()


def drawings_of(study: Study, name: str, scale: str) -> dict[str, Drawing]:
    figure = study.read(name, scale)
    return study.kind_of(figure).draw(figure, made_up_rows(study, figure))


def test_there_are_studies() -> None:
    assert {"selection", "gating", "networked"} <= {study.name for study in studies()}


@pytest.mark.parametrize(("study", "name", "scale"), EVERY, ids=[f"{s.name}-{n}-{at}" for s, n, at in EVERY])
def test_every_text_of_a_figure_has_its_place(study: Study, name: str, scale: str) -> None:
    for drawing in drawings_of(study, name, scale).values():
        assert faults(drawing) == []


def lines_of(drawing: Drawing) -> list[Line]:
    return [line for panel in panels_of(drawing) for line in panel.curves]


def panels_of(drawing: Drawing) -> list[Panel]:
    """The panels of a drawing that have axes; the rows of a grid have no looks."""
    return [panel for panel in drawing.panels if isinstance(panel, Panel)]


def test_a_method_keeps_its_colour_in_all_figures() -> None:
    colours: dict[tuple[str, str], set[str]] = {}
    for study, name, scale in EVERY:
        figure = study.read(name, scale)
        by_label = {figure.label(curve): settings for curve, settings in figure.curves.items()}
        for drawing in drawings_of(study, name, scale).values():
            for line in lines_of(drawing):
                settings = by_label.get(line.label)
                for key in ("look",) if hasattr(settings, "look") else ("method", "policy"):
                    method = getattr(settings, key, None)
                    if isinstance(method, str) and method:
                        colours.setdefault((key, method), set()).add(line.look.colour)
                        break  # a policy in place of a method's own changes nothing about its colour
    assert len(colours) >= 19
    assert {method: len(found) for method, found in colours.items() if len(found) > 1} == {}
    for (_, method), (colour,) in colours.items():
        assert LOOKS[method].colour == colour


def test_no_two_curves_of_a_panel_look_alike() -> None:
    for study, name, scale in EVERY:
        for drawing in drawings_of(study, name, scale).values():
            for panel in panels_of(drawing):
                looks = [line.look for line in panel.curves]
                assert len(set(looks)) == len(looks), (name, looks)


def test_a_label_looks_alike_in_all_panels_of_a_figure() -> None:
    for study, name, scale in EVERY:
        for drawing in drawings_of(study, name, scale).values():
            looks: dict[str, set[Look]] = {}
            for line in lines_of(drawing):
                looks.setdefault(line.label, set()).add(line.look)
            assert all(len(found) == 1 for found in looks.values()), looks


@pytest.mark.parametrize(
    ("panel", "fault"),
    [
        (Panel("", "x", "y", [Line("a curve with a name " * 6, [0, 1], [0, 1])]), "leaves the canvas"),
        (
            Panel("", "x", "y", [Line("a", [0, 1], [0, 1])], marks=[[0.5, "a\nb\nc\nd"], [0.5, "e\nf"]]),
            "mark",
        ),
    ],
)
def test_a_text_without_its_place_would_be_found(panel: Panel, fault: str) -> None:
    assert any(fault in found for found in faults(Drawing([panel])))


WITHOUT_X = {"others", "methods", "trade_off"}
"""The tables and the drawing that do not show what a figure sweeps."""


@pytest.mark.parametrize(("study", "name", "scale"), EVERY, ids=[f"{s.name}-{n}-{at}" for s, n, at in EVERY])
def test_the_label_of_the_x_axis_heads_the_column_of_every_table(study: Study, name: str, scale: str) -> None:
    read = study.read(name, scale)
    curves = read.curves
    if name == "run_time":  # each of its panels sweeps another thing, which one label cannot name
        curves = {curve: settings for curve, settings in curves.items() if settings.swept == "tokens"}
    axis = read.heading.x_axis.model_copy(update={"label": "my own label"})
    figure = replace(read, heading=read.heading.model_copy(update={"x_axis": axis}), curves=curves)
    rows, kind = made_up_rows(study, figure), study.kind_of(figure)
    for table in kind.tables(figure, rows):
        assert table.name in WITHOUT_X or "my own label" in table.header, table.name
    for part, drawing in kind.draw(figure, rows).items():
        for panel in drawing.panels:
            assert not isinstance(panel, Network)
            assert part in WITHOUT_X or panel.x_label.startswith("my own label"), part
