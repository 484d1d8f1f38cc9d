"""Progress of long work: bars on a terminal and in notebooks that can, plain lines elsewhere."""

import io
import sys

import pytest
from rich.console import Console

from airmoe.progress import Progress
from airmoe.report.progress import ProgressBars


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def told(steps: list[tuple[float, tuple[str, int, int, str]]]) -> list[str]:
    """The lines that are said of steps, each told so many seconds after the beginning."""
    said, clock = io.StringIO(), Clock()
    with ProgressBars(Console(file=said), clock) as progress:
        for seconds, step in steps:
            clock.now_s = 100.0 + seconds
            progress(*step)
    return said.getvalue().splitlines()


def test_off_a_terminal_a_short_activity_is_one_line_once_it_is_finished() -> None:
    steps = [(step, ("train", step, 3, f"loss {step}")) for step in (1, 2, 3)]
    assert told([*steps, (4, ("download", 1, 2, ""))]) == ["train: 3 steps, 3.0 s loss 3"]


def test_off_a_terminal_a_long_activity_tells_the_time_so_far_and_an_estimate() -> None:
    assert told(
        [(4.0 * step, ("train", step, 8, "F1 0.5" if step == 6 else "")) for step in range(1, 9)]
    ) == [
        "train: 3 of 8 steps, 12 s so far, about 20 s left",
        "train: 6 of 8 steps, 24 s so far, about 8 s left, F1 0.5",
        "train: 8 steps, 32.0 s",
    ]


def test_the_estimate_of_a_resumed_activity_counts_the_steps_that_were_done_now() -> None:
    lines = told([(5.0, ("train", 91, 100, "")), (10.0, ("train", 92, 100, ""))])
    assert lines == ["train: 92 of 100 steps, 10 s so far, about 40 s left"]


def test_a_single_slow_step_is_told_without_an_estimate() -> None:
    assert told([(60.0, ("train", 1, 2, ""))]) == ["train: 1 of 2 steps, 60 s so far"]


def test_what_has_no_known_end_is_told_without_an_estimate() -> None:
    lines = told([(1.0, ("download", 5, 0, "")), (20.0, ("download", 50, 0, ""))])
    assert lines == ["download: 50 of ? steps, 20 s so far"]


def test_an_activity_begins_when_the_one_before_it_was_last_heard_of() -> None:
    steps = [(7.0, ("features", 1, 1, "")), (9.5, ("experts", 1, 1, "")), (9.6, ("features", 1, 1, ""))]
    assert told(steps) == ["features: 1 steps, 7.0 s", "experts: 1 steps, 2.5 s", "features: 1 steps, 0.1 s"]


def test_on_a_terminal_a_bar_shows_steps_and_note() -> None:
    said = io.StringIO()
    with ProgressBars(Console(file=said, force_terminal=True, width=120)) as say:
        say("train", 1, 3, "macro-F1 0.512")
    assert "1/3" in said.getvalue()
    assert "macro-F1 0.512" in said.getvalue()


def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines() -> None:
    said = io.StringIO()
    with ProgressBars(Console(file=said, force_terminal=True, _environ={"TERM": "dumb"})) as say:
        say("train", 3, 3)
    assert said.getvalue() == "train: 3 steps, 0.0 s\n"


def test_a_notebook_without_widgets_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    said = io.StringIO()
    with ProgressBars(Console(file=said, force_jupyter=True)) as say:
        say("train", 3, 3)
    assert said.getvalue() == "train: 3 steps, 0.0 s\n"


def test_standard_output_is_where_it_is_shown_unless_told_otherwise(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with ProgressBars() as bars:
        say: Progress = bars
        say("train", 3, 3)
    assert capsys.readouterr().out == "train: 3 steps, 0.0 s\n"
