"""Threads that a test started itself: those of earlier tests of the same process may still end."""

import threading
from collections.abc import Callable


def started_since_now(name: str) -> Callable[[], int]:
    """Return what counts the live threads that start from now on, with names that begin so."""
    before = set(threading.enumerate())

    def live() -> int:
        return sum(thread.name.startswith(name) for thread in set(threading.enumerate()) - before)

    return live
