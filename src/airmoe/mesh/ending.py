"""What ends before the interpreter does.

A thread that comes back from native code once the interpreter is gone aborts the whole process. So the
daemon threads that work in native code are stopped and joined before, and sessions on whose own threads an
answer may come are closed. What the network's own threads have to tell of links that are closed comes in a
moment.
"""

import atexit
import threading
import time
import weakref
from collections.abc import Callable
from typing import Protocol

ENDING_S = 2.0
"""How long the end of a process waits for each of its threads: an expert may hang."""


LAST_WORDS_S = 0.1
"""How long the end of a process waits for what the network's own threads have to tell."""


class Ends(Protocol):
    """What has to end before the interpreter does."""

    def end(self) -> None:
        """End, as the process does."""
        ...


_stop_of: weakref.WeakKeyDictionary[threading.Thread, Callable[[], None]] = weakref.WeakKeyDictionary()
_is_called_back = threading.Event()
_told: weakref.WeakSet[Ends] = weakref.WeakSet()


def ends_with_process(thread: threading.Thread, stop: Callable[[], None]) -> None:
    """Have a thread that was started stopped and joined when its process ends, if it still works then."""
    _stop_of[thread] = stop


def needs_no_wait(thread: threading.Thread) -> None:
    """Have the end of the process not wait for a thread, which was stopped and waited for already."""
    _stop_of.pop(thread, None)


def is_told_the_end(whom: Ends) -> None:
    """Have somebody told that the process ends, if it is still there then."""
    _told.add(whom)


def network_calls_back() -> None:
    """Have the end of the process wait a moment for what the network's own threads have to tell."""
    _is_called_back.set()


@atexit.register
def _end() -> None:
    for stop in list(_stop_of.values()):
        stop()
    for thread in list(_stop_of):
        thread.join(ENDING_S)
    for whom in list(_told):
        whom.end()
    if _is_called_back.is_set():
        time.sleep(LAST_WORDS_S)
