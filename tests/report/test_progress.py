"""Progress of long work, off a terminal: a line per activity, once it is finished."""

import io

from rich.console import Console

from airmoe.report.progress import ProgressBars


def test_off_a_terminal_each_finished_activity_is_one_line() -> None:
    said = io.StringIO()
    with ProgressBars(Console(file=said)) as say:
        for step in range(1, 4):
            say("train", step, 3)
        say("download", 1, 2)
    assert said.getvalue().startswith("train: 3 steps, 0.0 s")
    assert said.getvalue().count("\n") == 1


def test_on_a_terminal_a_bar_shows_steps_and_note() -> None:
    said = io.StringIO()
    with ProgressBars(Console(file=said, force_terminal=True, width=120)) as say:
        say("train", 1, 3, "macro-F1 0.512")
    assert "1/3" in said.getvalue()
    assert "macro-F1 0.512" in said.getvalue()
