"""The figures of a demonstration: they show what they are given, and every text has its place."""

from collections.abc import Callable
from typing import Any

import pytest

from airmoe.report import DemoResults
from airmoe.report.drawing import Drawing, Grid, Panel
from airmoe.report.figures import (
    METHOD_LOOKS,
    answers_around_kills,
    descriptions,
    drawings,
    f1_against_energy,
    training_curves,
)
from tests.report.conftest import edited, made_up_comparison, made_up_results
from tests.report.legibility import faults

NAMES = list(drawings(made_up_results(made_up_comparison())))
Edit = Callable[[dict[str, Any]], object]


def labels(drawing: Drawing) -> list[str]:
    return [curve.label for panel in drawing.panels for curve in panel.curves]


@pytest.mark.parametrize("name", NAMES)
def test_every_text_of_a_figure_has_its_place(analog_results: DemoResults, name: str) -> None:
    assert faults(drawings(analog_results)[name]) == []


@pytest.mark.parametrize("names", [10, 100], ids=["ten clients of ten classes", "a hundred classes"])
def test_it_has_its_place_with_many_clients_and_classes_too(results: DemoResults, names: int) -> None:
    def enlarge(content: dict[str, Any]) -> None:
        classes = [f"class number {name}" for name in range(names)]
        clients = 10
        content["data"] |= {
            "classes": classes,
            "holds": [[(client + step) % names for step in range(3)] for client in range(clients)],
            "images_NC": [[client + name for name in range(names)] for client in range(clients)],
        }
        content["confusion_CC"] = [[abs(row - column) for column in range(names)] for row in range(names)]
        content["links_db_NN"] = [
            [None if node == other else node - 2.0 * other for other in range(clients)]
            for node in range(clients)
        ]
        for asked in content["asked"]:
            asked["pairs_NE"] = [
                [1 + client + other for other in range(clients)] for client in range(clients)
            ]

    large = drawings(edited(results, enlarge))
    for name in ("nodes-and-links", "classes-of-clients", "confusion", "who-asks-whom-moe-top1"):
        assert faults(large[name]) == [], name


def test_every_figure_is_described_and_equal_results_give_equal_figures(analog_results: DemoResults) -> None:
    assert set(drawings(analog_results)) <= set(descriptions(analog_results))
    assert drawings(made_up_results(made_up_comparison())) == drawings(analog_results)


def change(*keys: str | int, by: float = 0.01) -> Edit:
    def edit(content: dict[str, Any]) -> None:
        place: Any = content
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] += by

    return edit


SHOWN = {
    "nodes-and-links": change("links_db_NN", 0, 1, by=1.0),
    "classes-of-clients": change("data", "images_NC", 1, 2, by=1),
    "confusion": change("confusion_CC", 0, 1, by=1),
    "f1-against-energy": change("methods", 0, "figures", "macro_f1", by=-0.01),
    "f1-against-energy-closer": change("methods", 0, "figures", "joules_per_query", by=1e-6),
    "who-asks-whom-moe-top1": change("asked", 0, "pairs_NE", 1, 2, by=1),
    "who-asks-whom-moe-jesa": change("asked", 1, "pairs_NE", 1, 2, by=1),
    "training-curves": change("training", "stages", 0, "curve", 0, "macro_f1"),
    "answers-around-kills": change("kills", "stream", "latency_ms", 3, by=50.0),
    "analog-f1": change("analog", "sweeps", 1, "points", 1, "figures", "macro_f1"),
    "analog-local": change("analog", "sweeps", 0, "points", 1, "figures", "local_share"),
    "analog-energy": change("analog", "sweeps", 0, "points", 1, "figures", "joules_per_query"),
}


@pytest.mark.parametrize("name", NAMES)
def test_another_result_gives_another_figure(analog_results: DemoResults, name: str) -> None:
    assert drawings(edited(analog_results, SHOWN[name]))[name] != drawings(analog_results)[name]


def test_f1_against_energy_names_every_method_in_its_colour(results: DemoResults) -> None:
    drawing = f1_against_energy(results)
    by_label = {curve.label: curve for panel in drawing.panels for curve in panel.curves}
    for method in results.methods:
        assert by_label[method.label].look.colour == METHOD_LOOKS[method.id].colour


def test_classes_are_called_by_their_names(results: DemoResults) -> None:
    shown = drawings(results)
    (confusion,) = shown["confusion"].panels
    assert isinstance(confusion, Grid)
    assert list(confusion.columns) == labels(shown["confusion"]) == ["bee", "bird", "hive", "nest"]
    (asked,) = shown["who-asks-whom-moe-top1"].panels
    assert isinstance(asked, Grid)
    assert asked.columns[1] == "1: bird, hive"
    assert labels(shown["nodes-and-links"])[2] == "hive\nnest"


def test_the_best_closer_up_shows_some_of_every_curve_however_far_the_best_method_is_ahead(
    results: DemoResults,
) -> None:
    def lower_the_mixtures(content: dict[str, Any]) -> None:
        for method in content["methods"]:
            if method["id"] != "central-moe":
                method["figures"]["macro_f1"] -= 0.2
        for sweep in content["sweeps"]:
            for point in sweep["points"]:
                point["figures"]["macro_f1"] -= 0.2

    (panel,) = f1_against_energy(edited(results, lower_the_mixtures), closer=True).panels
    assert isinstance(panel, Panel)
    assert panel.y_range is not None
    low, high = panel.y_range
    assert {"networked MoE, top-1", "centrally trained MoE"} <= {curve.label for curve in panel.curves}
    for curve in panel.curves:
        assert any(low < y < high for y in curve.y), curve.label


def test_the_kills_are_marked_and_their_victims_named(results: DemoResults) -> None:
    latency, accuracy = answers_around_kills(results).panels
    assert isinstance(latency, Panel)
    assert isinstance(accuracy, Panel)
    assert [mark[0] for mark in latency.marks] == [24, 48]
    assert [mark[1] for mark in accuracy.marks] == ["node 1 killed", "node 3 frozen, then killed"]


def test_queries_routed_again_and_degraded_are_counted(results: DemoResults) -> None:
    shown = " ".join(labels(answers_around_kills(results)))
    assert "routed again around the lost node (2)" in shown
    assert "did not answer (1)" in shown
    panels = answers_around_kills(results).panels
    assert [panel.x_label for panel in panels if isinstance(panel, Panel)] == ["query while nodes die"] * 2


def test_the_slowest_query_that_is_told_is_one_of_the_figure(results: DemoResults) -> None:
    told = descriptions(edited(results, change("kills", "stream", "latency_ms", 3, by=50.0)))
    assert "the slowest query took 52 ms" in told["answers-around-kills"]


def test_the_fewest_queries_of_a_demonstration_can_be_drawn(results: DemoResults) -> None:
    from airmoe.studies.demo.run import FEWEST_QUERIES

    def shorten(content: dict[str, Any]) -> None:
        kills = content["kills"]
        kills["struck_at_query"] = [FEWEST_QUERIES // 10, FEWEST_QUERIES // 5]
        for key in ("latency_ms", "correct"):
            kills["stream"][key] = kills["stream"][key][:FEWEST_QUERIES]

    assert faults(answers_around_kills(edited(results, shorten))) == []


def test_a_network_where_only_the_own_expert_is_ever_asked_can_be_drawn(results: DemoResults) -> None:
    def stay_at_home(content: dict[str, Any]) -> None:
        points = (point for sweep in content["sweeps"] for point in sweep["points"])
        for measured in (*content["methods"], *points):
            measured["figures"]["joules_per_query"] = 0.0

    assert faults(f1_against_energy(edited(results, stay_at_home))) == []


@pytest.mark.parametrize("stage", ["gate", "channel-aware gate"])
def test_training_shows_each_stage_that_was_measured(results: DemoResults, stage: str) -> None:
    def without_gate(content: dict[str, Any]) -> None:
        training = content["training"]
        training["stages"] = [found for found in training["stages"] if found["stage"] != "gate"]

    def with_stage(content: dict[str, Any]) -> None:
        without_gate(content)
        curve = [{"round": 1, "macro_f1": 0.3}, {"round": 2, "macro_f1": 0.5}]
        content["training"]["stages"].append({"stage": stage, "curve": curve, "bytes_per_client": 1.0})

    assert len(labels(training_curves(edited(results, without_gate)))) == 2
    assert "stage 3" in labels(training_curves(edited(results, with_stage)))[-1]
