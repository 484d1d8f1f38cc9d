"""The study of the networked mixture: its settings, what is trained for which curve, and what is measured."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from airmoe.cli.study import study as study_command
from airmoe.errors import InvalidInputError
from airmoe.networked import measure_method, train_stages
from airmoe.networked.baseline_table import METHODS, Setting
from airmoe.networked.routing import expert_answers
from airmoe.progress import silent
from airmoe.studies.curves.figure import Workspace
from airmoe.studies.curves.figure_file import dump_figure
from airmoe.studies.curves.rows import Rows
from airmoe.studies.curves.run import run_study
from airmoe.studies.networked import NETWORKED, averaging, baselines, mixtures
from airmoe.studies.networked.models import images_of, inputs_of, trained_mixture
from airmoe.studies.networked.settings import (
    SMOKE,
    AveragingSettings,
    BaselineSettings,
    MixtureSettings,
    PatternSettings,
)

FIGURES = NETWORKED.figures
TINY: dict[str, Any] = SMOKE | {"clients": 3}


# Settings.


@pytest.mark.parametrize("figure", FIGURES)
def test_settings_that_are_written_down_are_read_back_the_same(figure: str, tmp_path: Path) -> None:
    for scale in FIGURES[figure].scales:
        read = NETWORKED.read(figure, scale)
        assert len(read.curves) >= 2
        (tmp_path / f"{figure}.toml").write_text(dump_figure(read), encoding="utf-8")
        for read_at in FIGURES[figure].scales:
            assert NETWORKED.read(figure, read_at, tmp_path) == read


@pytest.mark.parametrize("figure", FIGURES)
def test_all_curves_of_a_figure_are_comparable(figure: str) -> None:
    for scale in FIGURES[figure].scales:
        curves = NETWORKED.read(figure, scale).curves.values()
        for name in ("seeds", "swept", "values", "data", "train_images", "test_images"):
            assert len({getattr(curve, name) for curve in curves}) == 1, name
        assert len({curve.label for curve in curves}) == len(curves)
        assert all(curve.label for curve in curves)


def test_quick_and_smoke_take_digits_and_a_processor_the_official_images() -> None:
    for name, heading in FIGURES.items():
        assert set(heading.scales) <= {"full", "cpu", "quick", "smoke", "niid-bench"}
        for scale in set(heading.scales) & {"quick", "smoke"}:
            assert {curve.data for curve in NETWORKED.read(name, scale).curves.values()} == {"digits"}
        if "cpu" in heading.scales:
            for curve in NETWORKED.read(name, "cpu").curves.values():
                assert curve.data in ("cifar10", "fashion-mnist")
                assert (curve.seeds, curve.train_images, curve.test_images) == (3, 5000, 2000)


def test_every_ablation_and_division_is_measured_on_a_processor() -> None:
    measured = {name for name, heading in FIGURES.items() if "cpu" in heading.scales}
    cifar = {f"stages_cifar10_{split}" for split in ("ring", "iid", "dirichlet_0_1", "dirichlet_0_5")}
    others = {"stages_fashion_ring", "unlabelled_cifar10_ring", "unlabelled_cifar10_iid", "pattern", "rounds"}
    assert cifar | others | {"clients", "participation", "noise", "calibration", "baselines_ring"} <= measured


def test_stages_and_divisions_are_all_there() -> None:
    found = set()
    for name in FIGURES:
        if name.startswith(("stages_", "unlabelled_")):
            for curve in NETWORKED.read(name, "full").curves.values():
                found.add((curve.data, curve.partition, curve.features, curve.gate))
                assert set(curve.values) >= {1, 2}
    gates = ("fedgate", "rangate", "rollgate", "closed-form")
    pairs = {("fedce", gate) for gate in gates} | {("patches", "closed-form"), ("patches", "posterior")}
    pairs |= {(features, gate) for features in ("fedsc", "local-spectral") for gate in (gates[0], gates[3])}
    divisions = ("ring", "iid", "dirichlet:0.1", "dirichlet:0.5")
    assert found == {(d, p, *pair) for d in ("cifar10", "fashion-mnist") for p in divisions for pair in pairs}


def test_every_baseline_has_a_curve() -> None:
    for figure in ("baselines_ring", "baselines_iid"):
        assert {curve.method for curve in NETWORKED.read(figure).curves.values()} == set(METHODS)


def test_the_yardstick_is_that_of_niid_bench() -> None:
    curves = NETWORKED.read("niid_bench", "niid-bench").curves
    assert {curve.partition for curve in curves.values()} == {"ring", "iid"}
    for curve in curves.values():
        config = curve.training(seed=1)
        assert (config.data.name, config.data.clients, config.model.norm) == ("cifar10", 10, "none")
        features = config.features
        assert (features.rounds, features.local_epochs, features.batch_size) == (50, 10, 64)
        assert (features.learning_rate, features.momentum, features.weight_decay) == (0.01, 0.9, 1e-5)


def test_momentum_and_local_epochs_are_compared_at_equal_epochs() -> None:
    curves = NETWORKED.read("momentum", "full").curves.values()
    assert {(curve.momentum, curve.local_epochs) for curve in curves} == {
        (momentum, epochs) for momentum in (0.0, 0.9) for epochs in (1, 5, 10)
    }
    assert {curve.training(0).features.rounds * curve.local_epochs for curve in curves} == {50}


WRONG = {
    # kind, what the file holds: what is said of it
    ("mixture", "k = 11"): "k is 11; expected at most 10, the number of clients",
    ("mixture", "values = [1, 20]"): "k is 20; expected at most 10, the number of clients",
    ("mixture", 'gate = "fedgte"'): "'fedgte'",
    ("mixture", 'partition = "circle"'): "partition is 'circle'",
    ("mixture", 'swept = "momentum"'): "swept is 'momentum'",
    ("baselines", 'method = "centrl"'): "did you mean central?",
    ("averaging", "local_epochs = 7"): "values of whole rounds of 7 local epochs",
    ("pattern", "values = [4, 5]"): "values",
}


@pytest.mark.parametrize(("kind", "text"), WRONG)
def test_a_wrong_setting_is_named_with_its_file(kind: str, text: str, tmp_path: Path) -> None:
    figure = {"baselines": "baselines_ring", "averaging": "momentum", "mixture": "rounds"}.get(kind, kind)
    file = tmp_path / f"{figure}.toml"
    file.write_text(f'title = "T"\nkind = "{kind}"\nnumber = 1\n[curves.x]\n{text}\n', encoding="utf-8")
    with pytest.raises(InvalidInputError, match=re.escape(WRONG[kind, text])) as refused:
        run_study(NETWORKED, tmp_path / "out", settings=tmp_path)
    assert str(refused.value).startswith(f"{figure}.toml: ")
    assert list(tmp_path.iterdir()) == [file]


def test_a_study_knows_its_images_and_lists(tmp_path: Path) -> None:
    lists, read = tmp_path / "lists.json", []
    for last in (2, 2, 3):
        lists.write_text(f"[[0, 1], [{last}]]", encoding="utf-8")
        curve = MixtureSettings(data="digits", clients=2, partition=f"lists:{lists}")
        read.append(inputs_of({"x": {"a": curve, "b": MixtureSettings(data="digits")}}, {}))
    assert set(read[0]) == {"set of images digits", f"lists:{lists}"}
    assert read[0] == read[1]
    assert read[0] != read[2]


# What is measured.


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path, silent, {})


def kept(work: Workspace) -> list[str]:
    return sorted(path.name for path in work.folder.rglob("*.safetensors"))


def by_x(rows: Any) -> dict[float, dict[str, float]]:
    return {row["x"]: dict(row) for row in rows}


def test_the_scores_are_those_of_the_mixture_that_the_settings_train(work: Workspace) -> None:
    curve = MixtureSettings(**TINY, values=(1, 3))
    rows = by_x(mixtures.measure(curve, 4, work))
    config = curve.training(4)
    assert config.seed == 4
    setting = Setting(config, images_of(curve, work))
    trained = train_stages(config, setting.data)
    for k, row in rows.items():
        scores = expert_answers(trained.model, setting.data).by_gate(int(k))
        assert (row["macro_f1"], row["own_f1"]) == (scores.macro_f1, scores.own_f1)
        assert row["own_local_share"] == scores.own_local_share
        assert row["megabytes"] == sum(float(each["bytes"]) for each in trained.rows) / 3 / 1e6
    assert rows[1]["macro_f1"] != rows[3]["macro_f1"]
    assert rows[3]["local_share"] == pytest.approx(1 / 3)


def trained_stages(curve: MixtureSettings, work: Workspace) -> set[str]:
    """The stages that measuring a curve trains."""
    said = set[str]()
    told = Workspace(work.folder, lambda activity, *_: said.add(activity.rpartition(": ")[2]), {})
    list(mixtures.measure(curve, 0, told))
    return said


def test_curves_that_share_a_stage_train_it_once(work: Workspace) -> None:
    assert trained_stages(MixtureSettings(**TINY), work) == {"features", "experts", "gate"}
    assert trained_stages(MixtureSettings(**TINY | {"gate": "closed-form"}), work) == {"gate"}
    assert trained_stages(MixtureSettings(**TINY | {"expert_epochs": 2}), work) == {"experts", "gate"}
    assert trained_stages(MixtureSettings(**TINY), work) == set()
    models = [*["experts"] * 2, "features", *["gate statistics"] * 3, *["gate"] * 3]
    assert kept(work) == sorted(f"{stage}.safetensors" for stage in models)


def test_a_mixture_that_is_taken_up_is_the_same(work: Workspace) -> None:
    curve = MixtureSettings(**TINY)
    images = images_of(curve, work)
    first, again = (trained_mixture(curve.training(0), images, work)[0] for _ in range(2))
    assert first.rows == again.rows
    for name, weights in first.model.state_dict().items():
        assert weights.equal(again.model.state_dict()[name])


@pytest.mark.parametrize(
    ("swept", "values"),
    [("feature_rounds", (2, 3)), ("gate_rounds", (2, 3)), ("clients", (2, 3)), ("participation", (0.4, 1.0))],
)
def test_what_is_swept_is_what_is_trained(work: Workspace, swept: str, values: tuple[float, float]) -> None:
    curve = MixtureSettings(**TINY | {"swept": swept, "values": values})
    rows = by_x(mixtures.measure(curve, 0, work))
    assert tuple(rows) == values
    assert rows[values[0]]["megabytes"] != rows[values[1]]["megabytes"]


def test_every_way_to_learn_is_measured(work: Workspace) -> None:
    for name, curve in NETWORKED.read("unlabelled_cifar10_ring", "smoke").curves.items():
        rows = list(mixtures.measure(curve, 0, work))
        assert all(0 <= row["macro_f1"] <= 1 for row in rows), name
    assert len([path for path in kept(work) if path == "features.safetensors"]) == 3


def test_the_pattern_has_a_row_for_each_client_and_expert(work: Workspace) -> None:
    curve = PatternSettings(**TINY | {"values": (3,)})
    rows = by_x(mixtures.measure_pattern(curve, 0, work))
    assert list(rows) == list(curve.x_values) == [float(pair) for pair in range(9)]
    share_NE = np.reshape([row["share"] for row in rows.values()], (3, 3))
    assert share_NE.sum(axis=1) == pytest.approx(np.ones(3))


def pattern_table(share_NE: list[list[float]]) -> list[Any]:
    figure = NETWORKED.read("pattern", "smoke")
    shares = [share for of_client in share_NE for share in of_client]
    rows = [{"x": float(pair), "seed": 0, "share": share} for pair, share in enumerate(shares)]
    (table,) = mixtures.tables_of_pattern(figure, Rows(dict.fromkeys(figure.curves, rows)))
    return list(table.rows[0])


def test_the_table_of_the_pattern_says_what_stays_and_what_goes_where() -> None:
    _, stays, goes = pattern_table([[0.5, 0.4, 0.1], [0.0, 1.0, 0.0], [0.3, 0.5, 0.2]])
    assert stays.mean == pytest.approx(100 * (0.5 + 1.0 + 0.2) / 3)
    assert goes.mean == pytest.approx(100 * (0.4 + 0.0 + 0.5) / 3)


def test_baselines_are_those_of_the_method_on_the_shared_mixture(work: Workspace) -> None:
    curve = BaselineSettings(**TINY | {"values": (3,), "method": "oracle"})
    (row,) = baselines.measure(curve, 0, work)
    line = measure_method("oracle", Setting(curve.training(0), images_of(curve, work)))
    assert row["x"] == 3
    assert (row["macro_f1"], row["own_f1"]) == (line.scores.macro_f1, line.scores.own_f1)
    assert row["megabytes"] == line.training_bytes / 1e6
    models = len(kept(work))
    list(baselines.measure(BaselineSettings(**TINY | {"values": (3,), "method": "random"}), 0, work))
    assert len(kept(work)) == models


AVERAGED: dict[str, Any] = {
    **{"data": "digits", "train_images": 200, "test_images": 60, "clients": 2, "seeds": 1},
    **{"partition": "iid", "batch_size": 16, "learning_rate": 0.05},
}


def test_an_averaged_network_is_measured_after_so_many_epochs(work: Workspace) -> None:
    curve = AveragingSettings(**AVERAGED, local_epochs=2, values=(2, 6, 16))
    rows = by_x(averaging.measure(curve, 0, work))
    assert list(rows) == [2, 6, 16]
    assert rows[16]["accuracy"] > 0.5 > rows[2]["accuracy"]
    # A longer training passes the same points; an interrupted one goes on.
    longer = AveragingSettings(**AVERAGED, local_epochs=2, values=(16,))
    alone = Workspace(work.folder / "alone", silent, {})
    alone.folder.mkdir()
    assert by_x(averaging.measure(longer, 0, alone))[16] == rows[16]


class Stopped(Exception):
    """Raised in the middle of a training."""


def stop_at(activity: str, done: int) -> Callable[..., None]:
    def progress(said: str, so_far: int, total: int, note: str = "", /) -> None:
        if said.startswith(activity) and so_far == done:
            raise Stopped

    return progress


def test_a_longer_averaging_before_in_the_same_folder_leaves_out_no_point(work: Workspace) -> None:
    list(averaging.measure(AveragingSettings(**AVERAGED, local_epochs=1, values=(4,)), 0, work))
    rows = by_x(averaging.measure(AveragingSettings(**AVERAGED, local_epochs=1, values=(1, 4)), 0, work))
    assert rows.keys() == {1, 4}


def test_an_averaging_that_was_interrupted_between_two_points_ends_the_same(work: Workspace) -> None:
    curve = AveragingSettings(**AVERAGED, local_epochs=1, values=(1, 4))
    whole = list(averaging.measure(curve, 0, work))
    halves = work.folder / "halves"
    halves.mkdir()
    with pytest.raises(Stopped):
        list(averaging.measure(curve, 0, Workspace(halves, stop_at("average", 3), {})))
    assert list(averaging.measure(curve, 0, Workspace(halves, silent, {}))) == whole


def test_the_command_makes_a_run_folder(tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["networked", "--smoke", "--out", str(out), "--seed", "7"]
    figures = ("pattern", "baselines_ring")
    only = [word for figure in figures for word in ("--only", figure)]
    told = CliRunner().invoke(study_command, [*words, *only])
    assert told.exit_code == 0, told.output
    for figure in figures:
        assert (out / f"{figure}.csv").exists()
        assert list((out / "figures").glob(f"{figure}*.svg"))
    page = (out / "tables.md").read_text(encoding="utf-8")
    assert "Made by `airmoe study networked --smoke" in page
    assert "| global head, closed form |" in page
    assert not list(out.rglob("*.safetensors"))
