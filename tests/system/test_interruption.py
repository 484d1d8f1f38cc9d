"""Ctrl-C and SIGKILL: nothing half-written stays, no process is orphaned, training can be taken up again."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.commands import Command, all_under, ended, left_after, processes_about, running


def wait_until_training(demo: Command) -> None:
    demo.wait_for_line("train one FedAvg network")  # next, a central mixture for more epochs than fit


def wait_until_asking(demo: Command) -> None:
    demo.wait_for_line("ask: networked MoE, top-1")


@pytest.mark.parametrize(
    ("wait", "central_epochs"),
    [
        pytest.param(wait_until_training, 5000, id="while it trains"),
        pytest.param(wait_until_asking, 1, id="while it asks"),
    ],
)
def test_interrupting_the_demonstration_leaves_nothing(
    tmp_path: Path, tiny_settings: Path, wait: Callable[[Command], None], central_epochs: int
) -> None:
    options = ["--config", tiny_settings, "--central-epochs", central_epochs]
    with running("demo", *options, "--out", tmp_path / "run") as demo:
        wait(demo)
        assert processes_about(tmp_path)
        assert [path.name.startswith(".run.") for path in tmp_path.iterdir()] == [True]
        demo.send(signal.SIGINT)
        assert demo.wait(20) == 130
        assert "Traceback" not in demo.output
    assert left_after(tmp_path, 0) == {}
    assert all_under(tmp_path) == {}


def test_killing_the_demonstration_takes_its_nodes_along(tmp_path: Path, tiny_settings: Path) -> None:
    options = ["--config", tiny_settings, "--central-epochs", 1, "--out", tmp_path / "run"]
    with running("demo", *options) as demo:
        wait_until_asking(demo)
        nodes = [line for pid, line in processes_about(tmp_path).items() if pid != demo.pid]
        assert len(nodes) == 3
        demo.send(signal.SIGKILL)
        demo.wait(5)
    assert left_after(tmp_path) == {}
    assert not (tmp_path / "run").exists()


def test_training_that_was_interrupted_ends_at_the_same_bytes(tmp_path: Path, tiny_settings: Path) -> None:
    settings = tiny_settings.with_name("longer.toml")
    # Long enough to be interrupted in stage 1 even on a busy machine.
    text = tiny_settings.read_text(encoding="utf-8").replace("rounds = 2", "rounds = 10", 1)
    settings.write_text(text, encoding="utf-8")
    checkpoint = tmp_path / "resumed.partial" / "checkpoint" / "features.safetensors"
    with running("train", "--config", settings, "--out", tmp_path / "resumed") as train:
        while not checkpoint.exists():
            assert train.is_running, train.wait(1)
            time.sleep(0.01)
        train.send(signal.SIGINT)
        assert train.wait(20) == 130
        command = f"airmoe train --config {settings} --out {tmp_path / 'resumed'} --resume"
        assert command in train.output
        assert "Traceback" not in train.output
    assert [path.name for path in tmp_path.iterdir()] == ["resumed.partial"]

    resumed = ended("train", "--config", settings, "--out", tmp_path / "resumed", "--resume")
    whole = ended("train", "--config", settings, "--out", tmp_path / "whole")
    assert (resumed.returncode, whole.returncode) == (0, 0), resumed.stderr + whole.stderr

    weights = {
        out: {name: raw for name, raw in all_under(tmp_path / out).items() if name.endswith(".safetensors")}
        for out in ("resumed", "whole")
    }
    assert len(weights["whole"]) == 2 + 3
    assert weights["resumed"] == weights["whole"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["resumed", "whole"]
