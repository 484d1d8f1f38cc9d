"""Threads that end before the interpreter does.

A daemon thread that comes back from native code once the interpreter is gone aborts the whole process. So
the threads that work in native code are stopped and joined before.
"""

import atexit
import threading
import weakref
from collections.abc import Callable

ENDING_S = 2.0
"""How long the end of a process waits for each of its threads: an expert may hang."""

_stop_of: weakref.WeakKeyDictionary[threading.Thread, Callable[[], None]] = weakref.WeakKeyDictionary()


def ends_with_process(thread: threading.Thread, stop: Callable[[], None]) -> None:
    """Have a thread that was started stopped and joined when its process ends, if it still works then."""
    _stop_of[thread] = stop


def needs_no_wait(thread: threading.Thread) -> None:
    """Have the end of the process not wait for a thread, which was stopped and waited for already."""
    _stop_of.pop(thread, None)


@atexit.register
def _end() -> None:
    for stop in list(_stop_of.values()):
        stop()
    for thread in list(_stop_of):
        thread.join(ENDING_S)
