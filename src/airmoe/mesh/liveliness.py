"""Who can be asked: numbered nodes by their liveliness tokens, less those that let a request time out."""

import threading
import time

import zenoh

from airmoe.mesh.session import LEASE_MS

SILENCE_S = LEASE_MS / 1000
"""Who let a request time out is not asked again for this long; by then a dead node is known."""


class Liveliness:
    """The nodes that are alive under a key, watched until closed.

    Args:
        session: an open Zenoh session.
        key: their tokens are ``key/0``, ``key/1``, ...; others are ignored.
        nodes: how many there can be.
    """

    def __init__(self, session: zenoh.Session, key: str, nodes: int) -> None:
        self._silent_until_s: dict[int, float] = {}
        self._alive: set[int] = set()
        self._number_of = {str(number): number for number in range(nodes)}
        self._changed = threading.Condition()
        self._watching = True
        self._subscriber = session.liveliness().declare_subscriber(
            f"{key}/*", self._on_liveliness, history=True
        )

    def close(self) -> None:
        """Stop watching; the session stays open."""
        if self._watching:
            self._subscriber.undeclare()
        self._watching = False

    @property
    def alive(self) -> frozenset[int]:
        """The numbers that are alive."""
        with self._changed:
            return frozenset(self._alive)

    @property
    def askable(self) -> frozenset[int]:
        """The numbers that are alive and were not silent of late."""
        now_s = time.monotonic()
        with self._changed:
            return frozenset(n for n in self._alive if self._silent_until_s.get(n, 0.0) <= now_s)

    def wait(self, nodes: int, timeout_s: float) -> int:
        """Wait until so many are alive or the time is over; return how many are."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._alive) >= nodes, timeout_s)
            return len(self._alive)

    def silent(self, number: int) -> None:
        """Note that one let a request time out."""
        with self._changed:
            self._silent_until_s[number] = time.monotonic() + SILENCE_S

    def _on_liveliness(self, sample: zenoh.Sample) -> None:
        number = self._number_of.get(str(sample.key_expr).rpartition("/")[2])
        if number is None:
            return
        with self._changed:
            if sample.kind == zenoh.SampleKind.PUT:
                self._alive.add(number)
                self._silent_until_s.pop(number, None)
            else:
                self._alive.discard(number)
            self._changed.notify_all()
