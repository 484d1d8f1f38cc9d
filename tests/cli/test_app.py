"""The command as a whole: its help and version, bugs, and streams that end early or know few characters."""

import subprocess
import sys

import pytest

from airmoe.versions import version_of
from tests.system.commands import AIRMOE, ended, ended_in_fork


@pytest.mark.parametrize("group", [[], ["study"]])
def test_a_group_without_a_command_explains_itself(group: list[str]) -> None:
    bare, asked = ended_in_fork(*group), ended_in_fork(*group, "--help")
    assert (bare.returncode, asked.returncode) == (2, 0)
    assert bare.stderr == asked.stdout
    assert "\nCommands:\n" in bare.stderr
    assert bare.stdout == ""


@pytest.mark.parametrize("command", [[], ["train"], ["study", "gating"]])
def test_help_has_a_short_name(command: list[str]) -> None:
    short, long = ended_in_fork(*command, "-h"), ended_in_fork(*command, "--help")
    assert (short.returncode, short.stdout) == (long.returncode, long.stdout) == (0, long.stdout)
    assert long.stdout.startswith(" ".join(["Usage: airmoe", *command]))


@pytest.mark.parametrize("command", [["links"], ["study", "gating"]])
def test_help_says_defaults_as_they_are_typed(command: list[str]) -> None:
    explained = ended_in_fork(*command, "--help").stdout
    assert "[default: " in explained
    assert "\\[" not in explained


def test_it_tells_its_version() -> None:
    told = ended("--version")
    assert (told.returncode, told.stdout) == (0, f"airmoe {version_of('airmoe')}\n")


def test_it_is_a_module_to_run_too() -> None:
    told = ended("-m", "airmoe", "--version", program=[sys.executable])
    assert (told.returncode, told.stdout) == (0, f"airmoe {version_of('airmoe')}\n")


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_shell_completes_its_commands(shell: str) -> None:
    words = {"COMP_WORDS": "airmoe pre", "COMP_CWORD": "1", "_TYPER_COMPLETE_ARGS": "airmoe pre"}
    told = ended(environment={"_AIRMOE_COMPLETE": f"complete_{shell}", **words})
    assert told.returncode == 0
    assert "predict" in told.stdout
    assert "train" not in told.stdout


def run(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    begin = "from airmoe.cli import app\ndef command(**options):\n    "
    end = "\napp.app = command\napp.main()"
    return ended("-c", begin + script + end, program=[sys.executable], environment=environment)


def test_a_bug_keeps_its_traceback_and_says_that_it_is_one() -> None:
    told = run("[][0]")
    assert told.returncode == 1
    *_, kind, bug = told.stderr.splitlines()
    assert (kind, bug[:25]) == ("IndexError: list index out of range", "airmoe: this is a bug, in")


def test_trouble_gets_one_line() -> None:
    told = run("open('/nowhere/at')")
    assert (told.returncode, told.stdout) == (2, "")
    assert told.stderr == "airmoe: /nowhere/at: No such file or directory; expected to be able to use it\n"


SPEAK = "from airmoe.cli import app\napp.app = lambda **_: print('3 µJ ± 日')\napp.main()"


@pytest.mark.parametrize(
    ("encoding", "shown"), [("ascii", "3 uJ ~ ?"), ("cp1252", "3 µJ ± ?"), ("utf-8", "3 µJ ± 日")]
)
def test_a_stream_that_knows_few_characters_shows_what_it_can(encoding: str, shown: str) -> None:
    printed = subprocess.run(
        [sys.executable, "-c", SPEAK],
        env={"PATH": "", "PYTHONIOENCODING": encoding, "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        timeout=500,
        check=True,
    )
    assert printed.stdout == f"{shown}\n".encode(encoding)


@pytest.mark.parametrize("arguments", ["--help", "study selection --help"])
def test_a_reader_that_has_read_enough_ends_it_in_silence(arguments: str) -> None:
    """`airmoe … | head -0`: the pipe is closed before anything is written."""
    with subprocess.Popen(
        [*AIRMOE, *arguments.split()], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(500) == 1
