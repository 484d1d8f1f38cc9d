"""``results.json``: what is written is read back; what is wrong is refused with its place."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from airmoe.errors import RunFolderError
from airmoe.report import DemoResults, read_results, write_results
from tests.report.conftest import edited


def test_what_is_written_is_read_back(tmp_path: Path, analog_results: DemoResults) -> None:
    write_results(analog_results, tmp_path)
    assert read_results(tmp_path) == analog_results


def test_the_file_says_its_format(tmp_path: Path, results: DemoResults) -> None:
    write_results(results, tmp_path)
    content = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert content["format"] == "airmoe demo 3"


def test_a_method_is_found_by_its_id_whatever_its_label(results: DemoResults) -> None:
    def swap_labels(content: dict[str, Any]) -> None:
        one, two = content["methods"][:2]
        one["label"], two["label"] = two["label"], one["label"]

    method = edited(results, swap_labels).method("moe-top1")
    assert (method.label, method.figures.macro_f1) == ("networked MoE, top-2", 0.951)


def test_what_was_not_measured_is_null(tmp_path: Path, results: DemoResults) -> None:
    write_results(results, tmp_path)
    content = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    (fedavg,) = [method for method in content["methods"] if method["id"] == "fedavg-network"]
    assert fedavg["figures"]["latency_p50_ms"] is None
    assert content["analog"] is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.1, 1.1, None])
def test_no_f1_is_outside_0_and_1(results: DemoResults, value: float | None) -> None:
    def replace(content: dict[str, Any]) -> None:
        content["methods"][0]["figures"]["macro_f1"] = value

    with pytest.raises(ValidationError, match=r"methods\.0\.figures\.macro_f1"):
        edited(results, replace)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_no_figure_is_nan_or_infinite(analog_results: DemoResults, value: float) -> None:
    def replace(content: dict[str, Any]) -> None:
        content["analog"]["methods"][0]["mean_snr_db"] = value

    with pytest.raises(ValidationError, match=r"mean_snr_db\n.*finite number"):
        edited(analog_results, replace)


def drop_a_method(content: dict[str, Any]) -> None:
    del content["methods"][0]


def name_a_method_twice(content: dict[str, Any]) -> None:
    content["methods"][1]["id"] = "moe-top1"


@pytest.mark.parametrize("edit", [drop_a_method, name_a_method_twice])
def test_each_method_is_there_once(results: DemoResults, edit: Callable[[dict[str, Any]], None]) -> None:
    with pytest.raises(ValidationError, match=r"methods is .*; expected each of moe-top1, .* once"):
        edited(results, edit)


def test_a_folder_without_results_is_no_demonstration(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"results\.json does not exist; expected the run folder of"):
        read_results(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("format", "airmoe demo 1", "format is 'airmoe demo 1'; expected 'airmoe demo 3'"),
        ("seed", -1, "seed is -1; expected at least 0"),
        ("luck", 7, "luck is 7; expected a known key"),
    ],
)
def test_another_file_is_refused_with_the_place_of_the_first_fault(
    tmp_path: Path, results: DemoResults, key: str, value: object, said: str
) -> None:
    content = results.model_dump() | {key: value}
    (tmp_path / "results.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(RunFolderError, match=re.escape(said)):
        read_results(tmp_path)


def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, results: DemoResults) -> None:
    (tmp_path / "results.json").write_text(results.model_dump_json()[:1000], encoding="utf-8")
    with pytest.raises(RunFolderError, match=r"results\.json is damaged"):
        read_results(tmp_path)
