"""Ctrl-C and SIGKILL: nothing half-written stays, no process is orphaned, training can be taken up again."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from airmoe.data import ImageSet
from airmoe.networked import train_run
from airmoe.networked.config import load_config
from tests.system.commands import Command, all_under, ended, left_after, processes_about, running

TOO_MANY_ROUNDS = 1_000_000
"""A training of so many rounds does not end by itself."""


@pytest.fixture
def endless_settings(tiny_settings: Path) -> Path:
    text = tiny_settings.read_text(encoding="utf-8")
    path = tiny_settings.with_name("endless.toml")
    path.write_text(text.replace("rounds = 2", f"rounds = {TOO_MANY_ROUNDS}", 1), encoding="utf-8")
    return path


def wait_until_training(demo: Command, place: Path) -> None:
    demo.wait_until(lambda: any(place.rglob("checkpoint/features.safetensors")))


def wait_until_asking(demo: Command, place: Path) -> None:
    demo.wait_for_line("ask: networked MoE, top-1")  # seven other methods follow
    assert len(processes_about(place)) == 1 + 3


@pytest.mark.parametrize(
    ("wait", "settings"),
    [
        pytest.param(wait_until_training, "endless_settings", id="while it trains", marks=pytest.mark.long),
        pytest.param(wait_until_asking, "tiny_settings", id="while it asks", marks=pytest.mark.long),
    ],
)
def test_interrupting_the_demonstration_leaves_nothing(
    tmp_path: Path, wait: Callable[[Command, Path], None], settings: str, request: pytest.FixtureRequest
) -> None:
    options = ["--config", request.getfixturevalue(settings), "--central-epochs", 1, "--ask", 100]
    with running("demo", *options, "--out", tmp_path / "run") as demo:
        wait(demo, tmp_path)
        assert all(path.name.startswith(".run.") for path in tmp_path.iterdir())
        demo.send(signal.SIGINT)
        assert demo.wait() == 130
        assert "Traceback" not in demo.output
    assert left_after(tmp_path, 0) == {}
    assert all_under(tmp_path) == {}


@pytest.mark.long
def test_killing_the_demonstration_takes_its_nodes_along(tmp_path: Path, tiny_settings: Path) -> None:
    options = ["--config", tiny_settings, "--central-epochs", 1, "--ask", 100, "--out", tmp_path / "run"]
    with running("demo", *options) as demo:
        wait_until_asking(demo, tmp_path)
        demo.send(signal.SIGKILL)
        demo.wait()
    assert left_after(tmp_path) == {}
    assert not (tmp_path / "run").exists()


def test_training_that_was_interrupted_ends_at_the_same_bytes(
    tmp_path: Path, tiny_settings: Path, digits: ImageSet
) -> None:
    settings = tiny_settings.with_name("longer.toml")
    text = tiny_settings.read_text(encoding="utf-8").replace("rounds = 2", "rounds = 4", 1)
    text = text.replace("clients = 3", "clients = 2")
    settings.write_text(text, encoding="utf-8")
    with running("train", "--config", settings, "--out", tmp_path / "resumed") as train:
        checkpoint = tmp_path / "resumed.partial" / "checkpoint" / "features.safetensors"
        train.wait_until(checkpoint.exists)
        train.send(signal.SIGINT)
        assert train.wait() == 130
        command = f"airmoe train --config {settings} --out {tmp_path / 'resumed'} --resume"
        assert command in train.output
        assert "Traceback" not in train.output
    assert [path.name for path in tmp_path.iterdir()] == ["resumed.partial"]

    config = load_config(settings)
    settings.unlink()  # the run knows its settings
    resumed = ended("train", "--out", tmp_path / "resumed", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    train_run(config, digits, tmp_path / "whole")

    weights = {
        out: {name: raw for name, raw in all_under(tmp_path / out).items() if name.endswith(".safetensors")}
        for out in ("resumed", "whole")
    }
    assert len(weights["whole"]) == 2 + 2
    assert weights["resumed"] == weights["whole"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["resumed", "whole"]
