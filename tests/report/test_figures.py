"""The figures: valid SVG, the same results give the same bytes, and they show what they are given."""

import copy
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

import pytest

from airmoe.report.figures import (
    FIGURES,
    answers_around_kills,
    f1_against_energy,
    over_analog_links,
    training_curves,
)

every_figure = pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES.keys())
Draw = Callable[[dict[str, Any]], str]


def words(svg: str) -> str:
    return " | ".join(text for text in ET.fromstring(svg).itertext() if text.strip())


@every_figure
def test_a_figure_is_valid_svg_with_a_size(results: dict[str, Any], draw: Draw) -> None:
    root = ET.fromstring(draw(results))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert float(root.attrib["width"].removesuffix("pt")) > 300


@every_figure
def test_the_same_results_give_the_same_bytes(results: dict[str, Any], draw: Draw) -> None:
    assert draw(copy.deepcopy(results)) == draw(results)


@every_figure
def test_drawing_leaves_the_results_alone(results: dict[str, Any], draw: Draw) -> None:
    before = copy.deepcopy(results)
    draw(results)
    assert results == before


def test_f1_against_energy_names_every_method(results: dict[str, Any]) -> None:
    shown = words(f1_against_energy(results))
    for method in results["methods"]:
        assert method["name"] in shown


def test_another_f1_gives_another_figure(results: dict[str, Any]) -> None:
    before = f1_against_energy(results)
    results["methods"][0]["macro_f1"] -= 0.01
    assert f1_against_energy(results) != before


def test_the_kills_are_marked_and_their_victims_named(results: dict[str, Any]) -> None:
    shown = words(answers_around_kills(results))
    assert "node 1 killed" in shown
    assert "node 3 frozen, then killed" in shown


def test_queries_routed_again_and_degraded_are_counted(results: dict[str, Any]) -> None:
    shown = words(answers_around_kills(results))
    assert "(2)" in shown
    assert "(1)" in shown


def test_the_fewest_queries_of_a_demonstration_can_be_drawn(results: dict[str, Any]) -> None:
    from airmoe.studies.demo.run import FEWEST_QUERIES

    stream = results["kills"]["stream"]
    results["kills"]["struck_at_query"] = [FEWEST_QUERIES // 10, FEWEST_QUERIES // 5]
    stream["latency_ms"] = stream["latency_ms"][:FEWEST_QUERIES]
    stream["correct"] = stream["correct"][:FEWEST_QUERIES]
    ET.fromstring(answers_around_kills(results))


def test_a_network_where_only_the_own_expert_is_ever_asked_can_be_drawn(results: dict[str, Any]) -> None:
    for point in [*results["methods"], *results["sweeps"]["DES"], *results["sweeps"]["JESA"]]:
        point["joules_per_query"] = 0.0
    ET.fromstring(f1_against_energy(results))


def test_training_shows_each_stage_that_was_measured(results: dict[str, Any]) -> None:
    assert "FedGate" in words(training_curves(results))
    del results["curves"]["gate"]
    assert "FedGate" not in words(training_curves(results))


def test_over_analog_links_both_gates_are_drawn_beside_the_ceiling(analog_results: dict[str, Any]) -> None:
    shown = words(over_analog_links(analog_results))
    for said in ("channel-aware, top-1", "naive, top-1", "ideal links, top-1", "mean SNR of the links, dB"):
        assert said in shown
    before = over_analog_links(analog_results)
    assert over_analog_links(copy.deepcopy(analog_results)) == before
    for name, key in (("naive, top-1", "macro_f1"), ("channel-aware, top-1", "local_share")):
        changed = copy.deepcopy(analog_results)
        changed["analog"]["sweep"][name][1][key] += 0.1
        assert over_analog_links(changed) != before


def test_training_shows_the_channel_aware_gate_where_there_is_one(results: dict[str, Any]) -> None:
    assert "channel-aware" not in words(training_curves(results))
    results["curves"]["channel-aware gate"] = [[1.0, 0.3], [2.0, 0.5]]
    assert "channel-aware" in words(training_curves(results))
