"""The progress of long work: one kind of callback for all of it."""

from typing import Protocol


class Progress(Protocol):
    """Called with (activity, steps done, steps in all, a note to show beside it)."""

    def __call__(self, activity: str, done: int, total: int, note: str = "", /) -> None:
        """Take notice that ``done`` of ``total`` steps of an activity are done."""
        ...


def silent(activity: str, done: int, total: int, note: str = "", /) -> None:
    """Tell nobody."""
