"""What commands print on a terminal: with colours, and plainly where NO_COLOR is set."""

import os
import pty
import re
import subprocess
import sys

import pytest

PRINTED = """
from airmoe.cli.console import console
from airmoe.report.progress import ProgressBars
from airmoe.report.terminal import ScreenTable

console().print(ScreenTable("what it shows", ["policy", "F1"], [["topk:2", "0.951"]]))
console().print("dim", style="dim")
console().print("/a/path/with-7.png: 12.5%, True, None")
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
