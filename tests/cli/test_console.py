"""What commands print: with colours on a terminal, plainly where NO_COLOR is set, whole lines into pipes."""

import os
import pty
import re
import subprocess
import sys

import pytest

PRINTED = """
from airmoe.cli.console import console, tell
from airmoe.report.progress import ProgressBars
from airmoe.report.terminal import ScreenTable

console().print(ScreenTable("what it shows", ["policy", "F1"], [["topk:2", "0.951"]]))
tell("dim", style="dim")
tell("/a/path/with-7.png: 12.5%, True, None")
with ProgressBars(console()) as progress:
    progress("train", 1, 2, "loss 0.5")
    progress("train", 2, 2, "loss 0.4")
"""
STYLE = re.compile(rb"\x1b\[[0-9;]*m")


def on_a_terminal(*command: str, **environment: str) -> bytes:
    ours, theirs = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    started = subprocess.Popen(
        [sys.executable, *command],
        stdout=theirs,
        stderr=theirs,
        env=kept | {"TERM": "xterm-256color"} | environment,
    )
    os.close(theirs)
    printed = b""
    while True:
        try:
            read = os.read(ours, 4096)
        except OSError:  # so Linux says that the other end is closed
            break
        if not read:
            break
        printed += read
    os.close(ours)
    started.wait()
    return printed


def test_a_terminal_gets_styles() -> None:
    assert STYLE.search(on_a_terminal("-c", PRINTED))


def test_no_color_leaves_no_style_at_all() -> None:
    printed = on_a_terminal("-c", PRINTED, NO_COLOR="1")
    assert b"0.951" in printed
    assert b"train" in printed
    assert not STYLE.search(printed)


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["surprise"], ["serve", "nowhere"]])
def test_no_color_leaves_no_escapes_in_help_and_errors(words: list[str]) -> None:
    printed = on_a_terminal("-m", "airmoe.cli", *words, NO_COLOR="1")
    assert printed
    assert b"\x1b" not in printed


def test_a_dumb_terminal_gets_no_escapes_at_all() -> None:
    printed = on_a_terminal("-c", PRINTED, TERM="dumb")
    assert b"train: 2 steps" in printed
    assert b"\x1b" not in printed


def test_an_empty_no_color_changes_nothing() -> None:
    assert STYLE.search(on_a_terminal("-c", PRINTED, NO_COLOR=""))


PIPED = """
from airmoe.cli.console import console, tell
from airmoe.report.terminal import ScreenTable

tell("answered by " + ", ".join(["expert 3 (remote)"] * 20))
console().print(ScreenTable("wide", ["policy", *["a figure"] * 40], [["topk:2", *["0.951"] * 40]]))
"""


def test_a_pipe_gets_a_line_for_everything_and_for_every_row_of_a_table() -> None:
    narrow = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    piped = subprocess.run(
        [sys.executable, "-c", PIPED], capture_output=True, text=True, env=narrow, check=True
    ).stdout
    told, title, _, header, _, row, _ = piped.splitlines()
    assert told == "answered by " + ", ".join(["expert 3 (remote)"] * 20)
    assert title.rstrip() == "wide"
    assert header.count("a figure") == row.count("0.951") == 40
