"""Ctrl-C and SIGTERM: one is enough, whatever the interpreter does at that moment."""

import signal
import sys
from threading import Event
from types import FrameType

AGAIN_S = 0.01
"""How soon a lost interrupt is raised once more."""

_heard = Event()


def hear_interrupts() -> None:
    """Raise KeyboardInterrupt on SIGINT (where it is not ignored) and on SIGTERM.

    Python drops an exception in a destructor or in a callback of a weak reference, so the interrupt is raised
    again until something other than those hears it.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where it is ignored
        signal.signal(signal.SIGINT, _interrupt)
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, _interrupt)


def was_interrupted() -> bool:
    """Return whether an interrupt was heard: C code that it meets may turn it into an error of its own."""
    return _heard.is_set()


def _interrupt(number: int, frame: FrameType | None) -> None:
    _heard.set()
    sys.unraisablehook = _dropped
    raise KeyboardInterrupt


def _dropped(dropped: "sys.UnraisableHookArgs") -> None:
    # Objects that are half built now (Numba's, while it loads) fail to clean up; no user can act on that.
    if issubclass(dropped.exc_type, KeyboardInterrupt) and hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
