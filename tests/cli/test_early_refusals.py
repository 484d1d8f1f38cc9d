"""What is refused before anything is loaded or trained: a folder that is taken, a plugin that fails."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.system.commands import ended

WATCHED = """
import sys
from airmoe.cli import main
try:
    main()
finally:
    print(*sorted({"torch", "sklearn", "matplotlib"} & sys.modules.keys()))
"""

TRAIN, DEMO, EVALUATE = ["train"], ["demo"], ["evaluate", "run"]
SELECTION, GATING = ["study", "selection"], ["study", "gating"]
EVERY = [TRAIN, DEMO, EVALUATE, SELECTION, GATING]
RESUMED = [TRAIN, SELECTION, GATING]


def watched(words: Sequence[str], place: Path) -> subprocess.CompletedProcess[str]:
    return ended("-c", WATCHED, *words, cwd=place, program=[sys.executable])


def refused_at_once(said: str, words: Sequence[str], place: Path) -> None:
    told = watched(words, place)
    assert told.returncode == 2
    assert said in told.stderr
    assert told.stderr.count("\n") == 1
    assert told.stdout == "\n", "it loaded something"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A finished run, an unfinished one, a plugin that is broken, and a file."""
    for folder in ("run", "begun.partial"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "run.json").touch()
    (tmp_path / "broken.py").write_text("1 / 0", encoding="utf-8")
    (tmp_path / "file").touch()
    return tmp_path


@pytest.mark.parametrize("command", EVERY)
def test_a_folder_that_exists(place: Path, command: list[str]) -> None:
    refused_at_once(
        "out is 'run'; expected a folder that does not exist yet", [*command, "--out", "run"], place
    )


@pytest.mark.parametrize("command", EVERY)
def test_a_plugin_that_is_not_there(place: Path, command: list[str]) -> None:
    refused_at_once("nowhere.py'; expected a readable", [*command, "--plugin", "nowhere.py"], place)


@pytest.mark.parametrize("command", RESUMED)
def test_a_finished_run_that_is_to_be_resumed(place: Path, command: list[str]) -> None:
    refused_at_once("this one is finished", [*command, "--out", "run", "--resume"], place)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--out", "file/run"], "airmoe: file: File exists"),
        (["--out", "begun"], "no unfinished run; resume begun.partial or remove it"),
        (["--out", "new", "--resume"], "new.partial does not exist: there is nothing to resume"),
        (["--plugin", "broken.py"], "broken.py, line 1: ZeroDivisionError"),
    ],
)
def test_a_folder_that_cannot_be_made_and_a_plugin_that_fails(
    place: Path, options: list[str], said: str
) -> None:
    refused_at_once(said, ["train", *options], place)


def test_a_training_that_was_begun_with_other_plugins(place: Path) -> None:
    (place / "begun.partial" / "checkpoint").mkdir()
    (place / "mine.py").write_text(
        "from airmoe.plugins import register\n@register('policy', 'x')\nclass X:\n    route = print\n"
    )
    refused_at_once(
        "begun.partial was begun without the plugin mine.py",
        ["train", "--out", "begun", "--resume", "--plugin", "mine.py"],
        place,
    )


def test_what_is_watched_is_loaded_otherwise(place: Path) -> None:
    assert "torch" in watched(["evaluate", "run"], place).stdout
