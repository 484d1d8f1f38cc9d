"""Progress of long work: bars on a terminal and in a notebook, plain lines elsewhere."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

LINE_EVERY_S = 10.0
"""Seconds that lie at least between two plain lines about one activity."""


@dataclass
class _Told:
    """When an activity began, when and at which step it was first told of, and when a line was printed."""

    begin_s: float
    first_s: float
    first_done: int
    line_s: float


class ProgressBars:
    """Shows the progress that it is told; an `airmoe.progress.Progress`.

    On a terminal it draws bars, and so it does in a notebook that has ipywidgets. Elsewhere, and on a
    terminal that cannot move its cursor (TERM=dumb), it prints a plain line every few seconds, with the time
    so far and an estimate, and one at the end of each activity.

    Args:
        console: where to show it; left out, standard output.
        clock: seconds that pass.

    Examples:
        >>> from airmoe.report.progress import ProgressBars
        >>> with ProgressBars() as progress:  # hand it to a training as ``progress=progress``
        ...     progress("features", 1, 40)
    """

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = Console(markup=False) if console is None else console
        self._draws = self._console.is_terminal and not self._console.is_dumb_terminal
        if self._console.is_jupyter and find_spec("ipywidgets") is None:
            self._draws = False  # Rich would only warn
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._clock = clock
        self._told: dict[str, _Told] = {}
        self._last_s = clock()

    def __enter__(self) -> "ProgressBars":
        self._last_s = self._clock()
        if self._draws:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._draws:
            self._bars.stop()

    def __call__(self, activity: str, done: int, total: int, note: str = "", /) -> None:
        """Show that ``done`` of ``total`` steps of an activity are done."""
        if not self._draws:
            self._tell(activity, done, total, note)
            return
        if activity not in self._tasks:
            self._tasks[activity] = self._bars.add_task(activity, total=total or None, note=note)
        self._bars.update(self._tasks[activity], completed=done, note=note)

    def _tell(self, activity: str, done: int, total: int, note: str) -> None:
        now_s = self._clock()
        # What is told first is a finished step: the activity began when the one before it was last heard of.
        told = self._told.setdefault(activity, _Told(self._last_s, now_s, done, self._last_s))
        self._last_s = now_s
        so_far_s = now_s - told.begin_s
        if done == total:
            self._print(f"{activity}: {total} steps, {so_far_s:.1f} s {note}")
            del self._told[activity]
        elif now_s - told.line_s >= LINE_EVERY_S:
            told.line_s = now_s
            parts = [f"{activity}: {done} of {total or '?'} steps", f"{so_far_s:.0f} s so far"]
            if total and done > told.first_done:
                rest_s = (now_s - told.first_s) / (done - told.first_done) * (total - done)
                parts.append(f"about {rest_s:.0f} s left")
            self._print(", ".join([*parts, *([note] if note else [])]))

    def _print(self, line: str) -> None:
        print(line.rstrip(), file=self._console.file, flush=True)  # into a log as it happens
