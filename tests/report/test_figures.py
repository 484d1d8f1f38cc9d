"""The figures: valid SVG, the same results give the same bytes, and they show what they are given."""

import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

import pytest

from airmoe.report import DemoResults
from airmoe.report.figures import (
    FIGURES,
    answers_around_kills,
    f1_against_energy,
    over_analog_links,
    training_curves,
)
from tests.report.conftest import edited, made_up_results

every_figure = pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES.keys())
Draw = Callable[[DemoResults], str]


def words(svg: str) -> str:
    return " | ".join(text for text in ET.fromstring(svg).itertext() if text.strip())


@every_figure
def test_a_figure_is_valid_svg_with_a_size(results: DemoResults, draw: Draw) -> None:
    root = ET.fromstring(draw(results))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert float(root.attrib["width"].removesuffix("pt")) > 300


@every_figure
def test_the_same_results_give_the_same_bytes(results: DemoResults, draw: Draw) -> None:
    assert draw(made_up_results()) == draw(results)


@every_figure
def test_drawing_leaves_the_results_alone(results: DemoResults, draw: Draw) -> None:
    before = results.model_dump_json()
    draw(results)
    assert results.model_dump_json() == before


def test_f1_against_energy_names_every_method(results: DemoResults) -> None:
    shown = words(f1_against_energy(results))
    for method in results.methods:
        assert method.label in shown


def test_another_f1_gives_another_figure(results: DemoResults) -> None:
    def lower(content: dict[str, Any]) -> None:
        content["methods"][0]["figures"]["macro_f1"] -= 0.01

    assert f1_against_energy(edited(results, lower)) != f1_against_energy(results)


def test_the_networked_mixture_has_a_colour_of_its_own(results: DemoResults) -> None:
    def regroup(content: dict[str, Any]) -> None:
        content["methods"][0]["family"] = "baseline"

    assert f1_against_energy(edited(results, regroup)) != f1_against_energy(results)


def test_the_kills_are_marked_and_their_victims_named(results: DemoResults) -> None:
    shown = words(answers_around_kills(results))
    assert "node 1 killed" in shown
    assert "node 3 frozen, then killed" in shown


def test_queries_routed_again_and_degraded_are_counted(results: DemoResults) -> None:
    shown = words(answers_around_kills(results))
    assert "(2)" in shown
    assert "(1)" in shown


def test_the_fewest_queries_of_a_demonstration_can_be_drawn(results: DemoResults) -> None:
    from airmoe.studies.demo.run import FEWEST_QUERIES

    def shorten(content: dict[str, Any]) -> None:
        kills = content["kills"]
        kills["struck_at_query"] = [FEWEST_QUERIES // 10, FEWEST_QUERIES // 5]
        for key in ("latency_ms", "correct"):
            kills["stream"][key] = kills["stream"][key][:FEWEST_QUERIES]

    ET.fromstring(answers_around_kills(edited(results, shorten)))


def test_a_network_where_only_the_own_expert_is_ever_asked_can_be_drawn(results: DemoResults) -> None:
    def stay_at_home(content: dict[str, Any]) -> None:
        points = (point for sweep in content["sweeps"] for point in sweep["points"])
        for measured in (*content["methods"], *points):
            measured["figures"]["joules_per_query"] = 0.0

    ET.fromstring(f1_against_energy(edited(results, stay_at_home)))


def test_training_shows_each_stage_that_was_measured(results: DemoResults) -> None:
    def without_gate(content: dict[str, Any]) -> None:
        training = content["training"]
        training["stages"] = [stage for stage in training["stages"] if stage["stage"] != "gate"]

    assert "FedGate" in words(training_curves(results))
    assert "FedGate" not in words(training_curves(edited(results, without_gate)))


def test_over_analog_links_both_gates_are_drawn_beside_the_ceiling(analog_results: DemoResults) -> None:
    assert analog_results.analog is not None
    before = over_analog_links(analog_results.analog)
    for said in ("channel-aware, top-1", "naive, top-1", "ideal links, top-1", "mean SNR of the links, dB"):
        assert said in words(before)
    assert over_analog_links(analog_results.analog.model_copy(deep=True)) == before
    for sweep, key in ((0, "local_share"), (1, "macro_f1")):

        def raise_one(content: dict[str, Any], sweep: int = sweep, key: str = key) -> None:
            content["analog"]["sweeps"][sweep]["points"][1]["figures"][key] += 0.1

        changed = edited(analog_results, raise_one).analog
        assert changed is not None
        assert over_analog_links(changed) != before


def test_training_shows_the_channel_aware_gate_where_there_is_one(results: DemoResults) -> None:
    def with_aware_gate(content: dict[str, Any]) -> None:
        curve = [{"round": 1, "macro_f1": 0.3}, {"round": 2, "macro_f1": 0.5}]
        stage = {"stage": "channel-aware gate", "curve": curve, "bytes_per_client": 1.0}
        content["training"]["stages"].append(stage)

    assert "channel-aware" not in words(training_curves(results))
    assert "channel-aware" in words(training_curves(edited(results, with_aware_gate)))
