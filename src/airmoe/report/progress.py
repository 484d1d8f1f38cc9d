"""Progress of long work: bars on a terminal, a line per finished activity elsewhere."""

import time
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


class ProgressBars:
    """Shows the progress that it is told; an `airmoe.progress.Progress`.

    Args:
        console: where to show it.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._begin: dict[str, float] = {}

    def __enter__(self) -> "ProgressBars":
        if self._console.is_terminal:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._bars.stop()

    def __call__(self, activity: str, done: int, total: int, note: str = "", /) -> None:
        """Show that ``done`` of ``total`` steps of an activity are done."""
        if not self._console.is_terminal:
            begin = self._begin.setdefault(activity, time.monotonic())
            if done == total:
                self._console.print(
                    f"{activity}: {total} steps, {time.monotonic() - begin:.1f} s {note}", soft_wrap=True
                )
            return
        if activity not in self._tasks:
            self._tasks[activity] = self._bars.add_task(activity, total=total or None, note=note)
        self._bars.update(self._tasks[activity], completed=done, note=note)
