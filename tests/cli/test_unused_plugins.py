"""A plugin of which a command uses nothing: one line says so, and what the file brings."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from airmoe.cli import app as cli
from airmoe.plugins import unload_plugins

PARTS = """
from airmoe.plugins import register
from airmoe.scheduling import routing_of

@register("policy", "cheap")
class Cheap:
    def route(self, scores_TE, cost, slot):
        return routing_of(scores_TE > 0, cost)

@register("aggregation", "first")
def first(state, replies):
    return next(iter(replies.values()))
"""
NOWHERE = "--data", "folder:nowhere"
SAID = "mine.py is not used: it brings policy cheap, aggregation first"


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(PARTS, encoding="utf-8")
    return path


Run = Callable[..., list[str]]


@pytest.fixture
def run(plugin: Path, caplog: pytest.LogCaptureFixture) -> Run:
    """What is said of the plugin by a command that is given it, whatever the command comes to."""

    def ran(*words: object) -> list[str]:
        CliRunner().invoke(cli.app, [*map(str, words), "--plugin", str(plugin)])
        return [said for said in caplog.messages if "mine.py" in said]

    return ran


@pytest.mark.parametrize("method", ["networked", "channel-aware"])
def test_a_training_asks_for_no_policy(run: Run, tmp_path: Path, method: str) -> None:
    assert run("train", "--method", method, *NOWHERE, "--out", tmp_path / "out") == [SAID]


def test_a_demonstration_asks_for_no_policy(run: Run, tmp_path: Path) -> None:
    assert run("demo", *NOWHERE, "--out", tmp_path / "out") == [SAID]


@pytest.mark.parametrize("command", ["train", "demo"])
def test_what_settings_name_is_used(run: Run, tmp_path: Path, command: str) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text('[gate]\naggregation = "first"\n', encoding="utf-8")
    assert run(command, *NOWHERE, "--config", settings, "--out", tmp_path / "out") == []


@pytest.mark.parametrize(
    "words", [["predict", "a.png", "--client", "nowhere", "--connect", "127.0.0.1:9"], ["serve", "nowhere"]]
)
def test_who_asks_and_who_serves_may_decide_by_a_policy(run: Run, words: list[str]) -> None:
    assert run(*words) == [SAID]


def test_who_asks_by_the_policy_uses_it(run: Run) -> None:
    asks = ["predict", "a.png", "--client", "nowhere", "--connect", "127.0.0.1:9"]
    assert run(*asks, "--policy", "cheap") == []


def test_an_evaluation_by_the_policy_uses_it(run: Run, run_folder: Path) -> None:
    words = "evaluate", run_folder, "--links", "perfect", "--seeds", 1
    assert run(*words, "--policy", "cheap") == []
    unload_plugins()
    assert run(*words) == [SAID]


def test_a_run_that_was_made_with_the_plugin_needs_it(run: Run, run_folder: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    shutil.copytree(run_folder, made)
    (made / "plugins").mkdir()
    (made / "plugins" / "mine.py").write_text(PARTS, encoding="utf-8")
    assert run("evaluate", made, "--links", "perfect", "--seeds", 1) == []


def test_a_study_may_use_nothing_of_it(run: Run, tmp_path: Path) -> None:
    words = "study", "selection", "--smoke", "--only", "share_optimal", "--out", tmp_path / "out"
    assert run(*words) == [SAID]
