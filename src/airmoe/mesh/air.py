"""Emulated links on the way of real messages: each is held back for as long as its link takes, or lost."""

import heapq
import itertools
import threading
import time
from collections.abc import Callable

import zenoh

from airmoe.links import EmulatedLinks
from airmoe.mesh.ending import ends_with_process

Arrived = Callable[[zenoh.Reply | None], None]
"""Gets each reply to a message, and None when no more will come."""


class Air:
    """Holds messages back; what a link carries comes one after another.

    Args:
        links: the links that are emulated.
    """

    def __init__(self, links: EmulatedLinks) -> None:
        self._links = links
        self._changed = threading.Condition()
        self._free_s: dict[tuple[int, int], float] = {}
        self._held: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._ends = False
        thread = threading.Thread(target=self._work, name="airmoe air", daemon=True)
        thread.start()
        ends_with_process(thread, self.close)

    def send(self, source: int, node: int, bits: int, deliver: Callable[[], None]) -> bool:
        """Deliver a message once its link has carried it; return False where it is lost."""
        with self._changed:
            took_s = self._links.carries_s(source, node, bits)
            if took_s is None or self._links.loses(source, node):
                return False
            link, now_s = (source, node), time.monotonic()
            self._free_s[link] = free_s = max(now_s, self._free_s.get(link, now_s)) + took_s
            self._hold(free_s + self._links.delay_s, deliver)
        return True

    def arriving(self, node: int, here: int, came: Arrived) -> Arrived:
        """Return what takes the replies of a node, and has them come as late as the way back takes.

        That nothing more comes is told last, however late the replies are.
        """
        last_s = 0.0

        def arrived(reply: zenoh.Reply | None) -> None:
            nonlocal last_s
            if reply is None:
                self.later(last_s, lambda: came(None))
                return
            bits = 8 * len(reply.ok.payload) if reply.ok is not None else 0
            if self.send(node, here, bits, lambda: came(reply)):
                last_s = self._free_s[node, here] + self._links.delay_s

        return arrived

    def later(self, at_s: float, call: Callable[[], None]) -> None:
        """Call a function at a time of the monotonic clock."""
        with self._changed:
            self._hold(at_s, call)

    def _hold(self, at_s: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._held, (at_s, next(self._numbers), call))
        self._changed.notify()

    def close(self) -> None:
        """Hold nothing any longer, and call nothing."""
        with self._changed:
            self._ends = True
            self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._ends and (left_s := self._left_s()) > 0:
                    self._changed.wait(left_s if left_s < threading.TIMEOUT_MAX else None)
                if self._ends:
                    return
                _, _, call = heapq.heappop(self._held)
            call()

    def _left_s(self) -> float:
        return self._held[0][0] - time.monotonic() if self._held else threading.TIMEOUT_MAX
