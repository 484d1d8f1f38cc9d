"""Telling systemd how a service is, where it asks: that it serves, that it is well, that it ends.

systemd names a socket and, for a unit with ``WatchdogSec=``, within which time it wants a sign of life. See
sd_notify(3) and sd_watchdog_enabled(3).
"""

import logging
import os
import socket
import threading
from collections.abc import Callable, MutableMapping
from contextlib import suppress

SAYING_S = 1.0
"""How long it may take to say something: where nobody reads, the socket fills up after some messages."""

_log = logging.getLogger("airmoe.monitor")


class Systemd:
    """systemd, as far as it asked this process; nothing is said where it did not.

    Args:
        environment: of this process. What systemd put there is taken out, so that no process that this one
            starts speaks in its place.
    """

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        self._address = environment.pop("NOTIFY_SOCKET", "")
        within_us, process = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", "")
        is_asked = within_us.isdecimal() and process in ("", str(os.getpid()))
        self._within_s = int(within_us) / 1e6 if is_asked and self._address else 0.0
        self._ends = threading.Event()

    def serves(self, why_not: Callable[[], str | None]) -> None:
        """Say that the service has begun; then, twice within the time, that it is well, while it is.

        Args:
            why_not: returns why the service should be started anew; None while it is well.
        """
        self._say("READY=1")
        if self._within_s:
            threading.Thread(target=self._watch, args=(why_not,), name="airmoe watchdog", daemon=True).start()

    def ends(self) -> None:
        """Say that the service ends."""
        self._ends.set()
        self._say("STOPPING=1")

    def _watch(self, why_not: Callable[[], str | None]) -> None:
        told: str | None = None
        while not self._ends.wait(self._within_s / 2):
            why = why_not()
            if why is None:
                self._say("WATCHDOG=1")
            elif told is None:
                _log.error("no sign of life for systemd: %s", why)
            told = why

    def _say(self, what: str) -> None:
        if not self._address:
            return
        # An address that begins with @ is no file; the kernel has a zero byte in its place.
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        with (
            suppress(OSError),  # systemd has gone, or does not listen
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out,
        ):
            out.settimeout(SAYING_S)
            out.sendto(what.encode(), address)
