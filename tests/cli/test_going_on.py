"""What an interrupted command offers: the command that goes on, if there is something to go on with."""

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from airmoe.cli import app as cli
from airmoe.plugins import unload_plugins
from airmoe.runs.checkpoint import Checkpoint
from airmoe.studies.curves import measuring

TINY = """
[data]
clients = 2
[features]
rounds = 1
[experts]
epochs = 1
[gate]
rounds = 1
"""


def ran(words: list[str], monkeypatch: pytest.MonkeyPatch) -> Result:
    monkeypatch.setattr(sys, "argv", ["airmoe", *words])
    return CliRunner().invoke(cli.app, words)


def offered(told: str) -> list[str]:
    """The words that a shell makes of the line that is offered; none without such a line."""
    lines = re.findall(r"^Interrupted\. Go on with: (.*)$", told, re.MULTILINE)
    assert len(lines) <= 1
    return shlex.split(lines[0]) if lines else []


def interrupt(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "my runs; 50 $" / "the run"


@pytest.fixture
def train(tmp_path: Path, out: Path) -> list[str]:
    settings = tmp_path / "tiny settings.toml"
    settings.write_text(TINY, encoding="utf-8")
    return ["train", "--config", str(settings), "--out", str(out)]


PLUGIN = """
from airmoe.plugins import register

@register("aggregation", "going-on")
def first(state, replies):
    return next(iter(replies.values()))
"""
STUDY = ["study", "selection", "--smoke", "--only", "share_optimal"]


def test_a_training_without_checkpoint_offers_nothing(
    train: list[str], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Checkpoint, "save", interrupt)
    told = ran(train, monkeypatch)
    assert told.exit_code == 130
    assert "Go on" not in told.output
    assert not out.parent.exists()


def test_what_a_training_offers_can_be_pasted(
    train: list[str], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = Checkpoint.save

    def save_and_stop(checkpoint: Checkpoint, stage: str, *args: Any) -> None:
        save(checkpoint, stage, *args)
        raise KeyboardInterrupt

    with monkeypatch.context() as changed:
        changed.setattr(Checkpoint, "save", save_and_stop)
        first = offered(ran(train, monkeypatch).output)
        assert first == ["airmoe", *train, "--resume"]
        assert offered(ran(first[1:], monkeypatch).output) == first
    assert ran(first[1:], monkeypatch).exit_code == 0
    assert (out / "run.json").exists()


def test_a_study_that_wrote_nothing_offers_nothing(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airmoe.studies.curves.run.new_record", interrupt)
    told = ran([*STUDY, "--out", str(out)], monkeypatch)
    assert told.exit_code == 130
    assert "Go on" not in told.output
    assert not out.exists()


def test_what_a_study_offers_can_be_pasted(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(unload_plugins)
    plugin = tmp_path / "own parts.py"
    plugin.write_text(PLUGIN, encoding="utf-8")
    with monkeypatch.context() as changed:
        changed.setattr(measuring, "measure_piece", interrupt)
        told = ran([*STUDY, "--plugin", str(plugin), "--out", str(out)], monkeypatch)
    words = ["airmoe", "study", "selection", "--plugin", str(plugin), "--resume", "--out", str(out)]
    assert offered(told.output) == words
    finished = ran(words[1:], monkeypatch)
    assert finished.exit_code == 0, finished.exception
    assert (out / "run.json").exists()
