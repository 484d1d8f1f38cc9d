"""``airmoe demo``: the whole system in one command, as a user runs it."""

import re
import tomllib
from html.parser import HTMLParser

import pytest

from tests.system.commands import all_under
from tests.system.conftest import ASKED, Demonstration

CLIENTS = 5
ROUTED = [f"networked MoE, {rule}" for rule in ("top-1", "top-2", "DES", "JESA")]
REMOTE = [*ROUTED, "all experts averaged", "random routing"]
METHODS = [*REMOTE, "local expert only", "one FedAvg network", "centrally trained MoE"]


def test_it_succeeds_and_says_nothing_of_errors(demonstration: Demonstration) -> None:
    assert demonstration.process.returncode == 0, demonstration.process.stderr
    assert "Traceback" not in demonstration.process.stderr


def test_no_process_is_left(demonstration: Demonstration) -> None:
    assert demonstration.processes_left == {}


def test_the_run_folder_holds_what_the_design_says_and_nothing_else(demonstration: Demonstration) -> None:
    figures = ["answers-around-kills", "f1-against-energy", "training-curves", "who-asks-whom"]
    figures.append("over-analog-links")
    shared = ("extractor", "gate", "gate_channel_aware")
    expected = {
        *("config.toml", "metrics.jsonl", "report.html", "results.json", "run.json"),
        *(f"shared/{name}.{kind}" for name in shared for kind in ("onnx", "safetensors")),
        *(
            f"clients/{client:02}/{name}"
            for client in range(CLIENTS)
            for name in (
                *(f"expert-{client}.onnx", f"expert-{client}.safetensors", "manifest.json"),
                *("extractor.onnx", "gate.onnx"),
            )
        ),
        *(f"figures/{name}.svg" for name in figures),
        *(f"samples/{digit}.png" for digit in range(10)),
    }
    assert {name for name, content in all_under(demonstration.out).items() if content is not None} == expected


def test_beside_the_run_folder_nothing_is_left(demonstration: Demonstration) -> None:
    assert [path.name for path in demonstration.out.parent.iterdir()] == ["run"]


def test_the_settings_it_ran_with_are_in_the_run_folder(demonstration: Demonstration) -> None:
    written = tomllib.loads((demonstration.out / "config.toml").read_text(encoding="utf-8"))
    assert written["data"]["clients"] == CLIENTS
    assert written["features"]["rounds"] == 14
    assert demonstration.results["config"] == written


def test_all_methods_are_compared_side_by_side(demonstration: Demonstration) -> None:
    assert [method["name"] for method in demonstration.results["methods"]] == METHODS


def test_every_client_asks_every_chosen_image_by_every_method(demonstration: Demonstration) -> None:
    assert {method["queries"] for method in demonstration.results["methods"]} == {CLIENTS * ASKED}


@pytest.mark.parametrize("name", ROUTED)
def test_the_networked_mixture_beats_what_knows_less(demonstration: Demonstration, name: str) -> None:
    networked = demonstration.method(name)["macro_f1"]
    assert networked > demonstration.method("local expert only")["macro_f1"] + 0.3
    assert networked > demonstration.method("random routing")["macro_f1"] + 0.3


def test_the_mesh_answers_as_the_same_mixture_in_one_process(demonstration: Demonstration) -> None:
    assert 0 <= demonstration.results["mesh_minus_simulation"] <= 1e-5


@pytest.mark.parametrize("name", REMOTE)
def test_asking_others_costs_bytes_joules_and_time(demonstration: Demonstration, name: str) -> None:
    method = demonstration.method(name)
    assert method["through"] == "mesh"
    assert method["bytes_per_query"] > 0
    assert method["joules_per_query"] > 0
    assert 0 < method["latency_p50_ms"] <= method["latency_p99_ms"]
    assert 0 < method["local_share"] < 1


@pytest.mark.parametrize("name", ["local expert only", "one FedAvg network"])
def test_what_stays_at_home_costs_nothing(demonstration: Demonstration, name: str) -> None:
    method = demonstration.method(name)
    assert (method["bytes_per_query"], method["joules_per_query"], method["local_share"]) == (0, 0, 1)


def test_more_experts_per_image_cost_more(demonstration: Demonstration) -> None:
    one, two, five = (demonstration.method(name) for name in (*ROUTED[:2], "all experts averaged"))
    assert [method["experts_per_query"] for method in (one, two, five)] == [1, 2, CLIENTS]
    assert one["joules_per_query"] < two["joules_per_query"] < five["joules_per_query"]
    assert one["bytes_per_query"] < two["bytes_per_query"] < five["bytes_per_query"]


def test_least_energy_selection_spends_less_when_less_is_asked_of_it(demonstration: Demonstration) -> None:
    for sweep in demonstration.results["sweeps"].values():
        joules = [point["joules_per_query"] for point in sweep]
        assert len(joules) >= 5
        assert joules == sorted(joules)


def test_choosing_subcarriers_too_costs_no_energy_worth_mention(demonstration: Demonstration) -> None:
    sweeps = demonstration.results["sweeps"]
    for alone, joint in zip(sweeps["DES"], sweeps["JESA"], strict=True):
        assert joint["joules_per_query"] <= alone["joules_per_query"] * (1 + 1e-4)


def test_jesa_spends_less_than_top_k_at_the_same_macro_f1(demonstration: Demonstration) -> None:
    entries = [entry for entry in demonstration.results["equal_f1"] if entry]
    said = " ".join(demonstration.process.stdout.split())
    assert entries
    for entry in entries:
        assert entry["f1"] >= entry["topk_f1"] - 0.002
        assert entry["joules"] < entry["topk_joules"]
        assert f"instead of {entry['topk_joules'] * 1e6:.1f} µJ a query" in said


def test_a_scheduler_decides_for_queries_that_come_together(demonstration: Demonstration) -> None:
    assert demonstration.method("networked MoE, JESA")["fallback_share"] < 0.05


def test_who_asked_whom_adds_up(demonstration: Demonstration) -> None:
    asked = demonstration.results["asked_by_client"]["networked MoE, top-1"]
    assert [sum(row) for row in asked] == [ASKED] * CLIENTS
    local = sum(asked[client][client] for client in range(CLIENTS)) / (ASKED * CLIENTS)
    assert local == pytest.approx(demonstration.method("networked MoE, top-1")["local_share"])


def test_two_different_nodes_die_and_no_query_fails(demonstration: Demonstration) -> None:
    kills = demonstration.results["kills"]
    assert len(set(kills["victims"])) == 2
    assert set(kills["victims"]) < set(range(CLIENTS))
    assert kills["queries"] == 2 * ASKED * (CLIENTS - 2) == 2 * len(kills["stream"]["latency_ms"])
    assert kills["failed_queries"] == 0
    assert 0 < kills["struck_at_query"][0] < kills["struck_at_query"][1] < kills["queries"]


def test_the_classes_judged_after_the_kills_are_those_of_the_survivors(
    demonstration: Demonstration,
) -> None:
    holds, kills = demonstration.results["data"]["holds"], demonstration.results["kills"]
    survivors = [set(held) for client, held in enumerate(holds) if client not in kills["victims"]]
    assert kills["classes_with_a_holder"] == sorted(set().union(*survivors))


def test_a_node_fits_a_small_board(demonstration: Demonstration) -> None:
    memory_mb = demonstration.results["nodes"]["memory_mb"]
    assert len(memory_mb) == CLIENTS
    assert 20 < min(memory_mb) <= max(memory_mb[1:]) < 120
    assert memory_mb[0] < 350  # it schedules, with SciPy and Numba


def test_the_table_and_the_place_of_the_report_are_printed(demonstration: Demonstration) -> None:
    said = demonstration.process.stdout
    for method in demonstration.results["methods"]:
        (row,) = [line for line in said.splitlines() if f" {method['name']} " in line]
        assert f"{method['macro_f1']:.3f}" in row
    assert said.splitlines()[-1] == f"Open {demonstration.out / 'report.html'}"
    assert re.search(rf"Nodes \d and \d died during {2 * ASKED * (CLIENTS - 2)} queries: 0 failed", said)


AWARE, NAIVE, BEST_LINK = "channel-aware, top-1", "naive, top-1", "best link"
AIRTIME_J = (400 / 2 + 32) * 1e-2 / 1e6
"""Half a complex symbol per value and 32 for the norm, at 10 mW and 1 MHz."""


def test_over_analog_links_every_client_asks_every_chosen_image_by_every_method(
    demonstration: Demonstration,
) -> None:
    methods = demonstration.results["analog"]["methods"]
    assert [method["name"] for method in methods] == [NAIVE, AWARE, BEST_LINK, "ideal links, top-1"]
    assert {method["queries"] for method in methods} == {CLIENTS * ASKED}
    assert {method["failed_queries"] for method in methods} == {0}


def test_on_the_same_links_channel_aware_routing_beats_naive_routing(demonstration: Demonstration) -> None:
    aware, naive = demonstration.over_analog_links(AWARE), demonstration.over_analog_links(NAIVE)
    assert aware["macro_f1"] > naive["macro_f1"] + 0.02
    assert aware["mean_snr_db"] > naive["mean_snr_db"] + 0.5
    assert aware["local_share_own_classes"] > naive["local_share_own_classes"] + 0.2
    assert demonstration.over_analog_links("ideal links, top-1")["macro_f1"] > aware["macro_f1"]


@pytest.mark.parametrize("name", [AWARE, NAIVE])
def test_an_analog_transfer_costs_its_airtime(demonstration: Demonstration, name: str) -> None:
    method = demonstration.over_analog_links(name)
    assert method["joules_per_query"] == pytest.approx((1 - method["local_share"]) * AIRTIME_J)


def test_the_best_link_is_the_own_node(demonstration: Demonstration) -> None:
    method = demonstration.over_analog_links(BEST_LINK)
    assert (method["local_share"], method["joules_per_query"], method["mean_snr_db"]) == (1, 0, None)
    assert method["macro_f1"] == pytest.approx(demonstration.method("local expert only")["macro_f1"])


def test_over_analog_links_the_mesh_answers_as_one_process_does(demonstration: Demonstration) -> None:
    assert 0 <= demonstration.results["analog"]["mesh_minus_simulation"] <= 1e-5
    for name in (AWARE, NAIVE):  # noise differs, and with it some of 200 answers
        method = demonstration.over_analog_links(name)
        assert method["macro_f1_simulated"] == pytest.approx(method["macro_f1"], abs=0.08)


def test_better_links_on_average_leave_less_to_lose(demonstration: Demonstration) -> None:
    for points in demonstration.results["analog"]["sweep"].values():
        assert [point["mean_snr_db"] for point in points] == [-5, 0, 5, 10, 15, 20]
        assert points[-1]["macro_f1"] > points[0]["macro_f1"] + 0.05
    ceiling = demonstration.over_analog_links("ideal links, top-1")["macro_f1"]
    naive = demonstration.results["analog"]["sweep"][NAIVE]
    assert naive[-1]["macro_f1"] == pytest.approx(ceiling, abs=0.02)


def test_the_comparison_over_analog_links_is_printed_and_in_the_report(demonstration: Demonstration) -> None:
    for method in demonstration.results["analog"]["methods"]:
        rows = [line for line in demonstration.process.stdout.splitlines() if f" {method['name']} " in line]
        assert any(f"{method['macro_f1']:.3f}" in row for row in rows)
        assert f"<td>{method['name']}</td><td>{method['macro_f1']:.3f}</td>" in demonstration.page


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
    assert len(parser.found) == 5
    assert all(reference.startswith("data:image/svg+xml;base64,") for reference in parser.found)
    assert not re.search(r"https?:|file:|url\(|@import", re.sub(r'src="data:[^"]*"', "", demonstration.page))


def test_the_report_shows_the_figures_that_were_measured(demonstration: Demonstration) -> None:
    for method in demonstration.results["methods"]:
        row = re.search(rf"<tr><td>{re.escape(method['name'])}</td>.*?</tr>", demonstration.page)
        assert row is not None
        assert f"<td>{method['macro_f1']:.3f}</td>" in row[0]
        assert f"<td>{method['bytes_per_query']:,.0f}</td>" in row[0]
    assert "$" not in demonstration.page
