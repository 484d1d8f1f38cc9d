"""``airmoe demo``: the whole system in one command, as a user runs it."""

import base64
import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from airmoe.report.drawing import package_files
from airmoe.report.figures import drawings
from airmoe.report.measured import AnalogMethodId, MethodId
from tests.machine import traces_of_a_machine
from tests.monitor.scalars import scalars
from tests.system.commands import all_under
from tests.system.conftest import ASKED, Demonstration

CLIENTS = 5
NETWORKED: tuple[MethodId, ...] = ("moe-top1", "moe-top2", "moe-des", "moe-jesa")
REMOTE: tuple[MethodId, ...] = (*NETWORKED, "all-averaged", "random")


def test_it_succeeds_and_says_nothing_of_errors(demonstration: Demonstration) -> None:
    assert demonstration.process.returncode == 0, demonstration.process.stderr
    assert "Traceback" not in demonstration.process.stderr


def test_no_process_is_left(demonstration: Demonstration) -> None:
    assert demonstration.processes_left == {}


def test_the_run_folder_holds_what_the_design_says_and_nothing_else(demonstration: Demonstration) -> None:
    figures = drawings(demonstration.results)
    shared = ("extractor", "gate", "gate_channel_aware")
    expected = {
        *("config.toml", "metrics.jsonl", "report.html", "results.json", "run.json"),
        *(f"shared/{name}.{kind}" for name in shared for kind in ("onnx", "safetensors")),
        *(
            f"clients/{client:02}/{name}"
            for client in range(CLIENTS)
            for name in (
                *("extractor.onnx", "gate.onnx", "manifest.json"),
                *(f"expert-{client}.onnx", f"expert-{client}.safetensors"),
            )
        ),
        *(f"figures/{name}.{kind}" for name in figures for kind in ("svg", "pdf", "pgf", "csv", "py")),
        *(f"figures/drawing/{path.name}" for path in package_files()),
        *(f"tables/{name}.{kind}" for name in ("methods", "analog") for kind in ("csv", "tex")),
        *(f"samples/{digit}.png" for digit in range(10)),
        "tensorboard/events.out.tfevents.0.airmoe",
        *(
            f"tensorboard/{method.id}/events.out.tfevents.0.airmoe"
            for method in demonstration.results.methods
        ),
    }
    assert {name for name, content in all_under(demonstration.out).items() if content is not None} == expected


def test_the_page_on_privacy_names_everything_in_the_run_folder_and_where_it_holds_images(
    demonstration: Demonstration,
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "operate" / "privacy.md").read_text(encoding="utf-8")
    rows = [line for line in page.partition("## What is in the files")[2].splitlines() if line[:3] == "| `"]
    for path in demonstration.out.iterdir():
        name = f"`{path.name}/`" if path.is_dir() else f"`{path.name}`"
        told = " ".join(row for row in rows if name in row.split("|")[1])
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        holds = any(file.suffix == ".png" or b"iVBORw0KGgo" in file.read_bytes() for file in files)
        assert told, name
        assert ("held-out image" in told) == holds, name


def test_tensorboard_shows_every_training_and_what_each_method_reached(demonstration: Demonstration) -> None:
    events = demonstration.out / "tensorboard"
    stages = {tag.partition("/")[0] for tag in scalars(events)}
    assert stages >= {"features", "gate", "fedavg network", "central MoE", "channel-aware gate"}
    for method in demonstration.results.methods:
        figures = method.figures
        assert scalars(events / method.id) == {
            "asked/macro_f1": [(1, pytest.approx(figures.macro_f1))],
            "asked/bytes": [(1, pytest.approx(figures.bytes_per_query))],
            "asked/energy_j": [(1, pytest.approx(figures.joules_per_query))],
        }


def test_beside_the_run_folder_nothing_is_left(demonstration: Demonstration) -> None:
    assert [path.name for path in demonstration.out.parent.iterdir()] == ["run"]


def test_the_settings_it_ran_with_are_in_the_run_folder(demonstration: Demonstration) -> None:
    written = tomllib.loads((demonstration.out / "config.toml").read_text(encoding="utf-8"))
    assert written["data"]["clients"] == CLIENTS
    assert written["features"]["rounds"] == 14
    assert demonstration.results.config == written


def test_all_methods_are_compared_side_by_side(demonstration: Demonstration) -> None:
    assert [method.id for method in demonstration.results.methods] == list(get_args(MethodId))
    assert [method.id for method in demonstration.analog.methods] == list(get_args(AnalogMethodId))


def test_every_client_asks_every_chosen_image_by_every_method(demonstration: Demonstration) -> None:
    assert {method.figures.queries for method in demonstration.results.methods} == {CLIENTS * ASKED}


@pytest.mark.parametrize("method", NETWORKED)
def test_the_networked_mixture_beats_what_knows_less(demonstration: Demonstration, method: MethodId) -> None:
    networked = demonstration.figures(method).macro_f1
    assert networked > demonstration.figures("local").macro_f1 + 0.3
    assert networked > demonstration.figures("random").macro_f1 + 0.3


def test_the_mesh_answers_as_the_same_mixture_in_one_process(demonstration: Demonstration) -> None:
    assert 0 <= demonstration.results.mesh_minus_simulation <= 1e-5


@pytest.mark.parametrize("method", REMOTE)
def test_asking_others_costs_bytes_joules_and_time(demonstration: Demonstration, method: MethodId) -> None:
    assert demonstration.results.method(method).measured_in == "mesh"
    figures = demonstration.figures(method)
    assert figures.bytes_per_query > 0
    assert figures.joules_per_query > 0
    assert figures.latency_p50_ms is not None
    assert figures.latency_p99_ms is not None
    assert 0 < figures.latency_p50_ms <= figures.latency_p99_ms
    assert 0 < figures.local_share < 1


@pytest.mark.parametrize("method", ["local", "fedavg-network"])
def test_what_stays_at_home_costs_nothing(demonstration: Demonstration, method: MethodId) -> None:
    figures = demonstration.figures(method)
    assert (figures.bytes_per_query, figures.joules_per_query, figures.local_share) == (0, 0, 1)


def test_more_experts_per_image_cost_more(demonstration: Demonstration) -> None:
    ids: tuple[MethodId, ...] = ("moe-top1", "moe-top2", "all-averaged")
    one, two, five = map(demonstration.figures, ids)
    assert [figures.experts_per_query for figures in (one, two, five)] == [1, 2, CLIENTS]
    assert one.joules_per_query < two.joules_per_query < five.joules_per_query
    assert one.bytes_per_query < two.bytes_per_query < five.bytes_per_query


def test_least_energy_selection_spends_less_when_less_is_asked_of_it(demonstration: Demonstration) -> None:
    for sweep in demonstration.results.sweeps:
        joules = [point.figures.joules_per_query for point in sweep.points]
        assert len(joules) >= 5
        assert joules == sorted(joules)


def test_choosing_subcarriers_too_costs_no_energy_worth_mention(demonstration: Demonstration) -> None:
    des, jesa = demonstration.results.sweeps
    assert (des.method, jesa.method) == ("moe-des", "moe-jesa")
    for alone, joint in zip(des.points, jesa.points, strict=True):
        assert joint.figures.joules_per_query <= alone.figures.joules_per_query * (1 + 1e-4)


def test_jesa_spends_less_than_top_k_at_the_same_macro_f1(demonstration: Demonstration) -> None:
    said = " ".join(demonstration.process.stdout.split())
    found = [(equal.topk, equal.jesa.figures) for equal in demonstration.results.equal_f1 if equal.jesa]
    assert found
    for topk, jesa in found:
        assert jesa.macro_f1 >= topk.macro_f1 - 0.002
        assert jesa.joules_per_query < topk.joules_per_query
        assert f"instead of {topk.joules_per_query * 1e6:.1f} µJ a query" in said


def test_a_scheduler_decides_for_queries_that_come_together(demonstration: Demonstration) -> None:
    assert demonstration.figures("moe-jesa").fallback_share < 0.05


def test_who_asked_whom_adds_up(demonstration: Demonstration) -> None:
    (asked,) = [asked for asked in demonstration.results.asked if asked.method == "moe-top1"]
    assert [sum(row) for row in asked.pairs_NE] == [ASKED] * CLIENTS
    local = sum(asked.pairs_NE[client][client] for client in range(CLIENTS)) / (ASKED * CLIENTS)
    assert local == pytest.approx(demonstration.figures("moe-top1").local_share)


def test_two_different_nodes_die_and_no_query_fails(demonstration: Demonstration) -> None:
    kills = demonstration.results.kills
    assert len(set(kills.victims)) == 2
    assert set(kills.victims) < set(range(CLIENTS))
    assert kills.queries == 2 * ASKED * (CLIENTS - 2) == 2 * len(kills.stream.latency_ms)
    assert kills.failed_queries == 0
    assert 0 < kills.struck_at_query[0] < kills.struck_at_query[1] < kills.queries


def test_the_classes_judged_after_the_kills_are_those_of_the_survivors(
    demonstration: Demonstration,
) -> None:
    holds, kills = demonstration.results.data.holds, demonstration.results.kills
    survivors = [set(held) for client, held in enumerate(holds) if client not in kills.victims]
    assert list(kills.classes_with_a_holder) == sorted(set().union(*survivors))


def test_a_node_fits_a_small_board(demonstration: Demonstration) -> None:
    memory_mb = demonstration.results.nodes.memory_mb
    assert len(memory_mb) == CLIENTS
    assert 20 < min(memory_mb) <= max(memory_mb[1:]) < 135
    assert memory_mb[0] < 380  # it schedules, with SciPy and Numba


def test_the_table_and_the_place_of_the_report_are_printed(demonstration: Demonstration) -> None:
    said = demonstration.process.stdout
    for method in demonstration.results.methods:
        (row,) = [line for line in said.splitlines() if f" {method.label} " in line]
        assert f"{method.figures.macro_f1:.3f}" in row
    assert said.splitlines()[-1] == f"Open {demonstration.out / 'report.html'}"
    assert re.search(
        rf"Of {2 * ASKED * (CLIENTS - 2)} queries while nodes \d and \d died and after, 0 failed", said
    )


AWARE_AND_NAIVE: tuple[AnalogMethodId, ...] = ("aware-top1", "naive-top1")
LEAST_AIRTIME_J = (400 / 2 + 32) * 1e-2 / 1e6
"""Half a complex symbol per value and 32 for the norm, at 10 mW and 1 MHz."""


def test_over_analog_links_every_client_asks_every_chosen_image_by_every_method(
    demonstration: Demonstration,
) -> None:
    methods = demonstration.analog.methods
    assert {method.figures.queries for method in methods} == {CLIENTS * ASKED}
    assert {method.figures.failed_queries for method in methods} == {0}


def test_on_the_same_links_channel_aware_routing_beats_naive_routing(demonstration: Demonstration) -> None:
    aware, naive = demonstration.analog.method("aware-top1"), demonstration.analog.method("naive-top1")
    assert (
        aware.macro_f1_simulated + aware.figures.macro_f1 > naive.macro_f1_simulated + naive.figures.macro_f1
    )
    assert aware.mean_snr_db is not None
    assert naive.mean_snr_db is not None
    assert aware.mean_snr_db > naive.mean_snr_db + 0.5
    assert aware.figures.local_share_own_classes > naive.figures.local_share_own_classes + 0.2
    assert demonstration.analog.method("ideal-top1").figures.macro_f1 > aware.figures.macro_f1


@pytest.mark.parametrize("method", AWARE_AND_NAIVE)
def test_an_analog_transfer_costs_its_airtime_at_least(
    demonstration: Demonstration, method: AnalogMethodId
) -> None:
    figures = demonstration.analog.method(method).figures
    assert figures.joules_per_query > (1 - figures.local_share) * LEAST_AIRTIME_J


def test_bad_links_pay_more_for_the_norm_that_goes_with_a_payload(demonstration: Demonstration) -> None:
    aware, naive = (demonstration.analog.method(method).figures for method in AWARE_AND_NAIVE)
    assert aware.joules_per_query < naive.joules_per_query


def test_the_best_link_is_the_own_node(demonstration: Demonstration) -> None:
    method = demonstration.analog.method("best-link")
    assert (method.figures.local_share, method.figures.joules_per_query, method.mean_snr_db) == (1, 0, None)
    assert method.figures.macro_f1 == pytest.approx(demonstration.figures("local").macro_f1)


def test_over_analog_links_the_mesh_answers_as_one_process_does(demonstration: Demonstration) -> None:
    assert 0 <= demonstration.analog.mesh_minus_simulation <= 1e-5
    for id_ in AWARE_AND_NAIVE:  # noise differs, and with it some of 200 answers
        method = demonstration.analog.method(id_)
        assert method.macro_f1_simulated == pytest.approx(method.figures.macro_f1, abs=0.08)


def test_better_links_on_average_leave_less_to_lose(demonstration: Demonstration) -> None:
    ceiling = demonstration.analog.method("ideal-top1").figures.macro_f1
    aware, naive = demonstration.analog.sweeps
    assert (aware.method, naive.method) == AWARE_AND_NAIVE
    for sweep in (aware, naive):
        assert [point.mean_snr_db for point in sweep.points] == [-5, 0, 5, 10, 15, 20]
        assert sweep.points[-1].figures.macro_f1 > sweep.points[0].figures.macro_f1 + 0.05
    assert naive.points[-1].figures.macro_f1 == pytest.approx(ceiling, abs=0.02)


def test_the_comparison_over_analog_links_is_printed_and_in_the_report(demonstration: Demonstration) -> None:
    for method in demonstration.analog.methods:
        f1 = f"{method.figures.macro_f1:.3f}"
        rows = [line for line in demonstration.process.stdout.splitlines() if f" {method.label} " in line]
        assert any(f1 in row for row in rows)
        assert re.search(rf">{re.escape(method.label)}</th><td [^>]*>{f1}</td>", demonstration.page)


class References(HTMLParser):
    """Collects every place outside itself that a page names."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {"src", "href", "srcset", "data", "poster", "action", "background"}
        self.found += [value or "" for name, value in attrs if name in named]
        if tag in {"script", "iframe", "link", "object", "embed", "base"}:
            self.found.append(tag)


def test_the_report_is_one_file_that_names_nothing_outside_itself(demonstration: Demonstration) -> None:
    parser = References()
    parser.feed(demonstration.page)
    assert len(parser.found) == 2 * 12 + 10  # figures for light and dark screens, and samples
    assert all(re.match("data:image/(svg.xml|png);base64,", reference) for reference in parser.found)
    assert not re.search(
        r"https?:|file:|url\(|@import", re.sub(r'src(set)?="data:[^"]*"', "", demonstration.page)
    )


def test_the_report_knows_who_holds_what_and_how_links_are(demonstration: Demonstration) -> None:
    results = demonstration.results
    held = tuple(tuple(np.flatnonzero(images).tolist()) for images in results.data.images_NC)
    assert held == results.data.holds
    assert sum(map(sum, results.data.images_NC)) == results.data.train_images
    for node, links_db in enumerate(results.links_db_NN):
        assert [other for other, snr_db in enumerate(links_db) if snr_db is None] == [node]


def test_confusion_counts_every_query_and_agrees_with_f1(demonstration: Demonstration) -> None:
    confusion = np.array(demonstration.results.confusion_CC)
    assert confusion.sum() == CLIENTS * ASKED
    with np.errstate(invalid="ignore"):
        f1 = 2 * confusion.diagonal() / (confusion.sum(axis=0) + confusion.sum(axis=1))
    assert np.nanmean(f1) == pytest.approx(demonstration.figures("moe-top1").macro_f1, abs=0.03)


def test_samples_are_asked_of_clients_that_lack_the_class(demonstration: Demonstration) -> None:
    samples = demonstration.results.samples
    assert [sample.label for sample in samples] == sorted({sample.label for sample in samples})
    assert len(samples) == 10
    for sample in samples:
        assert sample.label not in demonstration.results.data.holds[sample.client]
        png = base64.b64decode(sample.png_base64)
        assert png == (demonstration.out / "samples" / f"{sample.label}.png").read_bytes()
        assert (sample.joules == 0) == (sample.client == sample.expert)


def test_the_report_shows_the_figures_that_were_measured(demonstration: Demonstration) -> None:
    for method in demonstration.results.methods:
        row = re.search(rf"<tr[^>]*><th[^>]*>{re.escape(method.label)}</th>.*?</tr>", demonstration.page)
        assert row is not None
        assert f">{method.figures.macro_f1:.3f}</td>" in row[0]
        assert f">{method.figures.bytes_per_query:,.0f}</td>" in row[0]
    assert "$" not in demonstration.page


def test_no_file_of_a_demonstration_tells_of_this_machine(demonstration: Demonstration) -> None:
    assert (demonstration.out / "report.html").exists()
    assert traces_of_a_machine(demonstration.out, str(demonstration.out.parent)) == []
