"""``airmoe study`` as a user runs it, everything tiny: the folder, and what its rows must obey."""

import csv
import itertools
import json
import math
import re
import signal
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest

from airmoe.report.drawing import package_files
from tests.machine import traces_of_a_machine
from tests.system.commands import (
    AIRMOE_WITHOUT_TORCH,
    airmoe_without,
    all_under,
    ended,
    ended_in_fork,
    running,
)

STUDY = ("study", "selection")
FIGURES = (
    *("energy_by_importance", "energy_over_the_air", "energy_by_layer", "energy_by_max_experts"),
    *("share_optimal", "proven_gap", "search_nodes", "run_time"),
)
FILES_OF_A_FIGURE = ("svg", "pdf", "pgf", "csv", "py")
WITHOUT_MATPLOTLIB = airmoe_without("matplotlib")

Row = dict[str, float]


@dataclass(frozen=True)
class Study:
    """A finished study and its rows."""

    process: subprocess.CompletedProcess[str]
    out: Path

    def rows(self, figure: str, curve: str) -> list[Row]:
        with (self.out / f"{figure}.csv").open(encoding="utf-8", newline="") as file:
            return [
                {name: float(value) for name, value in row.items() if name != "curve"}
                for row in csv.DictReader(file)
                if row["curve"] == curve
            ]

    def curves(self, figure: str) -> list[str]:
        """The curves of a figure, as the settings of the run have them."""
        text = (self.out / "settings" / f"{figure}.toml").read_text(encoding="utf-8")
        return list(tomllib.loads(text)["curves"])

    def at(self, figure: str, curve: str, column: str) -> dict[tuple[float, float], float]:
        """A column by x and seed."""
        return {(row["x"], row["seed"]): row[column] for row in self.rows(figure, curve)}

    def mean(self, figure: str, curve: str, column: str) -> dict[float, float]:
        """The mean of a column over the seeds, by x, ascending."""
        found = self.rows(figure, curve)
        return {
            x: float(np.mean([row[column] for row in found if row["x"] == x]))
            for x in sorted({row["x"] for row in found})
        }


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The whole study in its tiny form, by a process that cannot import torch."""
    out = tmp_path_factory.mktemp("study") / "run"
    process = ended(*STUDY, "--smoke", "--out", out, program=AIRMOE_WITHOUT_TORCH, timeout_s=500)
    assert process.returncode == 0, process.stderr
    return Study(process, out)


def test_the_folder_is_complete(study: Study) -> None:
    files = {name for name, content in all_under(study.out).items() if content is not None}
    tables = {name for name in files if name.startswith("tables/")}
    for figure in FIGURES:
        for suffix in (".csv", ".tex"):
            assert any(name.startswith(f"tables/{figure}_") and name.endswith(suffix) for name in tables)
    drawings = {*FIGURES, "energy_by_importance_trade_off", "energy_over_the_air_trade_off"}
    events = {name for name in files if name.startswith("tensorboard/")}
    assert {name.split("/")[1] for name in events} == set(FIGURES)
    assert files - tables - events == (
        {"run.json", "tables.md"}
        | {f"settings/{figure}.toml" for figure in FIGURES}
        | {f"{figure}.csv" for figure in FIGURES}
        | {f"figures/{drawing}.{suffix}" for drawing in drawings for suffix in FILES_OF_A_FIGURE}
        | {f"figures/drawing/{path.name}" for path in package_files()}
    )
    assert [path.name for path in study.out.parent.iterdir()] == ["run"]


def test_every_figure_is_valid_svg(study: Study) -> None:
    for path in (study.out / "figures").glob("*.svg"):
        assert ET.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_every_table_names_the_command_that_makes_it(study: Study) -> None:
    tables = (study.out / "tables.md").read_text(encoding="utf-8")
    for figure in FIGURES:
        assert f"`airmoe study selection --smoke --seed 0 --only {figure}`" in tables
    assert "±" in tables


def test_no_file_tells_of_this_machine(study: Study) -> None:
    assert traces_of_a_machine(study.out, str(study.out.parent)) == []


def test_the_record_says_what_made_the_folder(study: Study) -> None:
    record = json.loads((study.out / "run.json").read_text(encoding="utf-8"))
    assert record["command"] == "airmoe study selection --smoke --seed 0"
    assert record["seed"] == 0
    assert record["versions"]["numpy"] == np.__version__
    assert record["host"]["cores"] >= 1
    assert set(record["seconds"]) == set(FIGURES)


def test_every_curve_has_a_row_for_each_of_its_values_and_seeds(study: Study) -> None:
    for figure in FIGURES:
        for curve in study.curves(figure):
            seeds = [row["seed"] for row in study.rows(figure, curve)]
            assert set(seeds) == {0.0, 1.0}
            assert seeds.count(0.0) == seeds.count(1.0)


ENERGIES = ("energy_by_importance", "energy_over_the_air", "energy_by_max_experts")


@pytest.mark.parametrize("figure", ENERGIES)
def test_no_schedule_costs_less_than_the_lower_bound(study: Study, figure: str) -> None:
    bound = study.at(figure, "lower_bound", "energy_j")
    for curve in ("jesa", "des"):
        energy = study.at(figure, curve, "energy_j")
        assert energy.keys() == bound.keys()
        assert all(energy[key] >= bound[key] * (1 - 1e-9) for key in bound), curve


@pytest.mark.parametrize("figure", ENERGIES)
def test_jesa_costs_no_more_than_des_and_meets_as_many_requirements(study: Study, figure: str) -> None:
    jesa, des = study.at(figure, "jesa", "energy_j"), study.at(figure, "des", "energy_j")
    assert all(jesa[key] <= des[key] * (1 + 1e-9) for key in des)
    assert sum(jesa.values()) < sum(des.values()) * (1 - 1e-6)
    assert study.at(figure, "jesa", "met_share") == study.at(figure, "des", "met_share")


@pytest.mark.parametrize("figure", ENERGIES[:2])
@pytest.mark.parametrize("curve", ["jesa", "des", "lower_bound", "homogeneous"])
def test_more_is_asked_for_more_energy_and_more_is_kept(study: Study, figure: str, curve: str) -> None:
    for column in ("energy_j", "relevance"):
        values = list(study.mean(figure, curve, column).values())
        assert len(values) == 3
        assert values == sorted(values)
    assert values[-1] > 1.1 * values[0]


@pytest.mark.parametrize("figure", ENERGIES[:2])
def test_top_2_costs_more_than_jesa_and_keeps_more(study: Study, figure: str) -> None:
    for column in ("energy_j", "relevance"):
        top = study.mean(figure, "topk", column)[2.0]
        for importance, value in study.mean(figure, "jesa", column).items():
            assert importance <= 0.9
            assert value < top


def test_relevance_of_policies_without_prices_is_what_chance_and_the_gate_say(study: Study) -> None:
    assert study.mean("energy_by_importance", "all", "relevance") == {8.0: pytest.approx(1.0)}
    for k, kept in study.mean("energy_by_importance", "random", "relevance").items():
        assert kept == pytest.approx(k / 8, abs=0.04)
    kept = list(study.mean("energy_by_importance", "topk", "relevance").values())
    assert kept == sorted(kept)
    assert kept[0] > 0.4


def test_cheapest_is_the_cheapest_of_one_expert(study: Study) -> None:
    cheapest = study.mean("energy_by_importance", "cheapest", "energy_j")[1.0]
    assert cheapest <= study.mean("energy_by_importance", "des", "energy_j")[0.3]
    assert cheapest < 0.7 * study.mean("energy_by_importance", "random", "energy_j")[1.0]


def test_deep_layers_of_jesa_cost_less_and_those_of_homogeneous_selection_do_not(study: Study) -> None:
    jesa = list(study.mean("energy_by_layer", "jesa", "energy_j").values())
    assert len(jesa) == 4
    assert jesa[-1] < jesa[0]
    same = list(study.mean("energy_by_layer", "homogeneous", "energy_j").values())
    assert max(same) < 1.2 * min(same)


def all_differ(nodes: int, subcarriers: float) -> float:
    """By hand: the probability that all links have best subcarriers of their own."""
    probability = 1.0
    for link in range(nodes * (nodes - 1)):
        probability *= 1 - link / subcarriers
    return probability


@pytest.mark.parametrize("nodes", [3, 8])
def test_schedules_are_optimal_at_least_as_often_as_all_best_subcarriers_differ(
    study: Study, nodes: int
) -> None:
    equal = study.mean("share_optimal", f"k{nodes}_bound", "optimal_share")
    proven = study.mean("share_optimal", f"k{nodes}_proven", "optimal_share")
    assert list(equal) == sorted(equal)
    for subcarriers, share in equal.items():
        expected = all_differ(nodes, subcarriers)
        draws = 40
        assert share >= expected - 3 * math.sqrt(expected * (1 - expected) / draws)
        assert proven[subcarriers] >= share
    differ = study.rows("share_optimal", f"k{nodes}_bound")
    assert all(row["optimal_share"] >= row["best_differ_share"] for row in differ)
    assert equal[max(equal)] > equal[min(equal)]


@pytest.mark.parametrize("fading", ["iid", "multipath"])
def test_gaps_are_not_negative_and_fall_with_more_subcarriers_and_better_bounds(
    study: Study, fading: str
) -> None:
    names = [f"{fading}_{bound}" for bound in ("fast", "tight", "tight_restarts")]
    gaps = [study.at("proven_gap", name, "gap") for name in names]
    for looser, tighter in itertools.pairwise(gaps):
        assert all(0 <= tighter[key] <= looser[key] for key in looser)
    for name in names:
        by_subcarriers = study.mean("proven_gap", name, "gap")
        assert by_subcarriers[256.0] <= by_subcarriers[64.0]
    assert 0 < study.mean("proven_gap", f"{fading}_fast", "gap")[256.0] < 0.01


def test_the_search_visits_far_fewer_nodes_than_there_are_sets(study: Study) -> None:
    for curve in ("reference", "uncorrelated", "weakly_correlated", "strongly_correlated"):
        rows = study.rows("search_nodes", curve)
        assert len(rows) == 6
        for row in rows:
            most = min(int(row["x"]) // 4, 8)
            sets = sum(math.comb(int(row["x"]), size) for size in range(1, most + 1))
            assert 1 <= row["nodes_median"] <= row["nodes_p999"] <= row["nodes_max"] <= sets
            assert row["unproven_share"] == 0
        assert max(row["nodes_max"] for row in rows if row["x"] == 32) < 1e-3 * sets


def test_times_are_times(study: Study) -> None:
    for swept in ("nodes", "subcarriers", "tokens"):
        for bound in ("none", "fast", "tight"):
            rows = study.rows("run_time", f"{swept}_{bound}")
            assert len(rows) == 4
            assert all(0 < row["least_s"] <= row["median_s"] <= row["most_s"] < 20 for row in rows)


def test_a_study_of_the_settings_that_it_left_has_the_same_rows(study: Study, tmp_path: Path) -> None:
    options = ("--settings", study.out / "settings", "--only", "proven_gap", "--only", "energy_by_layer")
    again = ended(*STUDY, *options, "--out", tmp_path / "again")
    assert again.returncode == 0, again.stderr
    for figure in ("proven_gap", "energy_by_layer"):
        rows = (tmp_path / "again" / f"{figure}.csv").read_bytes()
        assert rows == (study.out / f"{figure}.csv").read_bytes()
    assert not (tmp_path / "again" / "run_time.csv").exists()


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2])
def test_a_study_that_was_interrupted_goes_on_and_ends_with_the_same_rows(
    study: Study, tmp_path: Path, workers: int
) -> None:
    out, only = tmp_path / "run", ("--only", "share_optimal", "--only", "energy_by_layer")
    finished = tmp_path / "run.partial" / "rows" / "share_optimal" / "k3_bound.csv"
    with running(*STUDY, "--smoke", *only, "--workers", workers, "--out", out) as first:
        first.wait_until(finished.exists)
        begun = psutil.Process(first.pid).children(recursive=True)
        first.send(signal.SIGINT)
        assert first.wait() == 130
    assert (len(begun) >= workers) == (workers > 1)
    assert not psutil.wait_procs(begun, timeout=500)[1]
    assert f"airmoe study selection --resume --out {out}" in first.output
    assert "Traceback" not in first.output
    assert [path.name for path in tmp_path.iterdir()] == ["run.partial"]

    resumed = ended(*STUDY, "--resume", "--out", out)
    assert resumed.returncode == 0, resumed.stderr
    assert "share_optimal: k3_bound" not in resumed.stdout
    assert "share_optimal: k8_proven" in resumed.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    for figure in ("share_optimal", "energy_by_layer"):
        assert (out / f"{figure}.csv").read_bytes() == (study.out / f"{figure}.csv").read_bytes()


WRONG = {
    # arguments: what its one line must say
    ("--only", "energy"): ["only is 'energy'", "energy_by_importance, energy_over_the_air"],
    ("--smoke", "--quick"): ["--quick --smoke is 'both'", "at most one"],
    ("--seed", "-1"): ["seed is -1", "from 0"],
    ("--seed", "x"): ["--seed", "integer"],
    ("--fast",): ["--fast"],
    ("--resume",): ["out is None", "the run folder"],
    ("--resume", "--out", "new"): ["new.partial", "nothing to resume"],
    ("--out", "here"): ["out is 'here'", "does not exist yet"],
    ("--settings", "nowhere"): ["settings is 'nowhere'", "a folder"],
    ("--workers", "0"): ["workers is 0", "from 1 to 1024"],
    ("--workers", "2", "--dask", "tcp://127.0.0.1:1"): ["--workers --dask is 'both'", "at most one"],
    ("--settings", "here"): ["proven_gap.toml: curves.x: tokenz is 3", "a known key"],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds settings with a key that does not exist."""
    place = tmp_path_factory.mktemp("place")
    (place / "here").mkdir()
    text = 'title = "Gap"\nkind = "proven_gap"\nnumber = 1\n[curves.x]\ntokenz = 3\n'
    (place / "here" / "proven_gap.toml").write_text(text, encoding="utf-8")
    return place


ONE_AFTER_ANOTHER = """
import contextlib, io, json, sys
from airmoe.cli import main
told = []
for words in json.loads(sys.argv[1]):
    sys.argv[1:] = words
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as error:
        try:
            main()
        except SystemExit as end:
            told.append((end.code, error.getvalue()))
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def refused(place: Path) -> dict[tuple[str, ...], tuple[int, str]]:
    """Exit status and standard error of each wrong command, given one after the other to one process."""
    before = all_under(place)
    commands = json.dumps([[*STUDY, *wrong] for wrong in WRONG])
    done = ended(commands, program=(sys.executable, "-c", ONE_AFTER_ANOTHER), cwd=place)
    assert all_under(place) == before  # nothing is written
    return dict(zip(WRONG, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("wrong", WRONG, ids=" ".join)
def test_what_is_wrong_is_one_line_that_names_it(
    refused: dict[tuple[str, ...], tuple[int, str]], wrong: tuple[str, ...]
) -> None:
    status, error = refused[wrong]
    assert status == 2
    assert re.fullmatch(r"airmoe: [^\n]+\n", error), error
    for words in WRONG[wrong]:
        assert words in error


def test_without_matplotlib_it_says_what_to_install() -> None:
    told = ended(*STUDY, "--smoke", program=WITHOUT_MATPLOTLIB)
    assert told.returncode == 2
    assert re.fullmatch(
        r"airmoe: this command needs matplotlib; install with: pip install .*\[study\].*\n", told.stderr
    )


GATING_FIGURES = (
    *("analog_spread_0", "analog_spread_10", "one_bad_link", "outdated", "noisy", "shares"),
    *("digital_spread_10", "codes", "resnet18_spread_0"),
)
GATING_ONLY = tuple(word for figure in GATING_FIGURES for word in ("--only", figure))


@pytest.fixture(scope="module")
def gating(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The study of gating in its tiny form: a figure of every kind, sweep and transmission."""
    out = tmp_path_factory.mktemp("gating") / "run"
    options = ("--smoke", "--device", "cpu", *GATING_ONLY, "--out", out)
    process = ended("study", "gating", *options, environment={"OMP_NUM_THREADS": "1"}, timeout_s=500)
    assert process.returncode == 0, process.stderr
    return Study(process, out)


def gating_figures(gating: Study) -> dict[str, list[str]]:
    """The curves of every figure, as the settings of the run have them."""
    return {path.stem: gating.curves(path.stem) for path in (gating.out / "settings").iterdir()}


def test_the_study_of_gating_leaves_figures_tables_rows_and_settings(gating: Study) -> None:
    figures = gating_figures(gating)
    assert figures.keys() == set(GATING_FIGURES)
    files = {name for name, content in all_under(gating.out).items() if content is not None}
    events = {name for name in files if name.startswith("tensorboard/")}
    assert {name.split("/")[1] for name in events} == figures.keys()
    tables = {name for name in files if name.startswith("tables/")}
    assert {f"tables/{name}_accuracy.tex" for name in figures if name != "shares"} <= tables
    assert files - tables - events == (
        {"run.json", "tables.md"}
        | {f"{figure}.csv" for figure in figures}
        | {f"figures/{figure}.{suffix}" for figure in figures for suffix in FILES_OF_A_FIGURE}
        | {f"figures/drawing/{path.name}" for path in package_files()}
        | {f"settings/{figure}.toml" for figure in figures}
    )
    for figure in figures:
        drawing = ET.parse(gating.out / "figures" / f"{figure}.svg").getroot()
        assert drawing.tag == "{http://www.w3.org/2000/svg}svg"
    tables_md = (gating.out / "tables.md").read_text(encoding="utf-8")
    for figure in figures:
        assert f"`airmoe study gating --smoke --device cpu --seed 0 --only {figure}`" in tables_md
    assert [path.name for path in gating.out.parent.iterdir()] == ["run"]


def test_what_must_hold_of_gating_is_told(gating: Study) -> None:
    told = re.findall(r"^channel-aware: .*: (?:holds|does not hold)$", gating.process.stdout, re.MULTILINE)
    assert len(told) == 2


def test_every_gating_curve_has_a_row_for_each_value_and_shares_are_shares(gating: Study) -> None:
    for figure, curves in gating_figures(gating).items():
        swept = [[row["x"] for row in gating.rows(figure, curve)] for curve in curves]
        assert len(swept[0]) >= 2
        assert swept.count(swept[0]) == len(swept)
        for row in (row for curve in curves for row in gating.rows(figure, curve)):
            shares = {name: value for name, value in row.items() if "share" in name or name == "accuracy"}
            assert len(shares) >= 3
            assert all(0 <= share <= 1 for share in shares.values())
            assert row["least_share"] <= row["largest_share"]


def test_max_snr_routing_uses_the_best_links_and_others_none_better(gating: Study) -> None:
    best = gating.at("analog_spread_10", "best_link", "chosen_snr_db")
    assert best == pytest.approx({(mean_db, seed): mean_db + 10 for mean_db, seed in best})
    for curve in ("channel_aware", "naive", "naive_noise", "random", "one_network"):
        used = gating.at("analog_spread_10", curve, "chosen_snr_db")
        assert all(used[key] < best[key] for key in best)
    copies = gating.at("analog_spread_10", "one_network_best_link", "chosen_snr_db")
    assert copies == pytest.approx(best)


def test_the_oracle_is_the_best_and_without_a_channel_nothing_changes(gating: Study) -> None:
    for figure in ("analog_spread_0", "analog_spread_10"):
        best = gating.at(figure, "oracle", "accuracy")
        for curve in ("best_link", "channel_aware", "naive", "naive_noise", "random", "one_network"):
            accuracy = gating.at(figure, curve, "accuracy")
            assert all(accuracy[key] <= best[key] for key in best), (figure, curve)
        off = gating.rows(figure, "channel_off")
        assert len({row["accuracy"] for row in off}) == 1


@pytest.mark.long
def test_two_workers_that_share_models_leave_the_same_rows(gating: Study, tmp_path: Path) -> None:
    """Curves of three methods, two of which share both stages and all of which share the first."""
    text = (gating.out / "settings" / "analog_spread_0.toml").read_text(encoding="utf-8")
    curves = {"best_link", "channel_aware", "naive_noise"}
    for name in set(gating.curves("analog_spread_0")) - curves:
        text = re.sub(rf"\[curves\.{name}\]\n[^\[]*", "", text)
    (tmp_path / "analog_spread_0.toml").write_text(text, encoding="utf-8")
    options = ("--settings", tmp_path, "--device", "cpu", "--workers", 2, "--out", tmp_path / "run")
    again = ended("study", "gating", *options, timeout_s=500)
    assert again.returncode == 0, again.stderr
    two = Study(again, tmp_path / "run")
    for curve in curves:
        assert two.rows("analog_spread_0", curve) == gating.rows("analog_spread_0", curve)


def test_the_commands_explain_themselves() -> None:
    for command, words in (
        (("study",), "selection"),
        (("study",), "gating"),
        (STUDY, "--resume"),
        (STUDY, "--workers"),
        (STUDY, "--dask"),
        (("study", "gating"), "--gpu"),
    ):
        explained = ended_in_fork(*command, "--help")
        assert explained.returncode == 0
        assert words in explained.stdout
