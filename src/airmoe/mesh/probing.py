"""Messages that are sent for nothing but to measure a link, where requests do not tell of it.

airmoe/<mesh>/link/<node>/from/<name>      asked with anything: answered at once with nothing
"""

import math
import queue
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress

import zenoh

from airmoe.mesh.ending import ends_with_process
from airmoe.mesh.keys import link_key
from airmoe.mesh.queries import anybody, refuse, reply_to, serve
from airmoe.mesh.wire import Wire

SMALL_BYTES = 64
LARGE_BYTES = 32 << 10
"""The sizes of probes. A large one still fits into the buffers between two nodes, so it blocks nobody."""

PROBED_EVERY_S = 10.0
"""How old what is known of a link may get while nothing is sent over it."""

UNUSED_S = 60.0
"""How long after the last query links are still probed: a radio that nobody needs is left alone."""

PROBE_S = 2.0
"""How long the answer to a probe may take."""

PAUSE_S = 0.5
"""How long there is between probes of two links."""


def answer_probes(
    session: zenoh.Session, mesh: str, node: int, admits: Callable[[str], bool] = anybody
) -> "zenoh.Queryable[None]":
    """Answer probes to a node at once, on the network's own thread."""

    def accept(query: zenoh.Query, asker: str) -> None:
        size = 0 if query.payload is None else len(query.payload)
        if size > LARGE_BYTES:
            refuse(query, f"the probe has {size} bytes; expected at most {LARGE_BYTES}")
            return
        with suppress(zenoh.ZError):  # whoever asked is gone
            reply_to(query, b"")

    return serve(session, link_key(mesh, node), accept, admits)


class Prober:
    """Probes the links of a client.

    Args:
        wire: the client's, whose meter learns.
        mesh: name of the mesh.
        nodes: returns the nodes that are alive, but for the client's own.
    """

    def __init__(self, wire: Wire, mesh: str, nodes: Callable[[], Collection[int]]) -> None:
        self._wire, self._mesh, self._nodes = wire, mesh, nodes
        self._used_s, self._ends = -math.inf, threading.Event()
        self._probed_s: dict[int, float] = {}
        self._works = False

    def used(self) -> None:
        """Note that a query goes by what is measured."""
        self._used_s = time.monotonic()

    def probe(self, node: int, timeout_s: float = PROBE_S) -> bool:
        """Send a small and two large probes to a node; return whether all came back in time."""
        self._probed_s[node] = time.monotonic()
        end_s = time.monotonic() + timeout_s
        return all(self._came_back(node, size, end_s) for size in (SMALL_BYTES, LARGE_BYTES, LARGE_BYTES))

    def _came_back(self, node: int, size: int, end_s: float) -> bool:
        came: queue.SimpleQueue[zenoh.Reply | None] = queue.SimpleQueue()
        left_s = max(end_s - time.monotonic(), 0.001)
        key, whom = link_key(self._mesh, node), f"node {node}"
        self._wire.ask(node, key, bytes(size), left_s, came.put, whom)
        try:
            reply = came.get(timeout=left_s)
        except queue.Empty:
            return False
        return reply is not None and reply.ok is not None

    def start(self) -> None:
        """Probe from now on, until `close`, each link of which nothing is known of late. Twice is as once."""
        if self._works:
            return
        self._works = True
        thread = threading.Thread(target=self._work, name="airmoe probes", daemon=True)
        thread.start()
        ends_with_process(thread, self._ends.set)

    def close(self) -> None:
        """Probe no more."""
        self._ends.set()

    def _work(self) -> None:
        while not self._ends.wait(PAUSE_S):
            if time.monotonic() - self._used_s > UNUSED_S:
                continue
            due = self._wire.meter.surprising(self._nodes())
            if not due and self._wire.is_idle:
                due = self._next()
            for node in due:
                self.probe(node)

    def _next(self) -> list[int]:
        """Return the node whose link was not measured for longest, if it is due."""
        due_s = time.monotonic() - PROBED_EVERY_S
        last_s = {node: self._last_s(node) for node in self._nodes()}
        return [node for node in sorted(last_s, key=last_s.__getitem__) if last_s[node] < due_s][:1]

    def _last_s(self, node: int) -> float:
        """Return when a link was probed, or measured by requests."""
        measure, probed_s = self._wire.meter.measure(node), self._probed_s.get(node, -math.inf)
        if measure.rate_bps is None or measure.age_s is None:
            return probed_s
        return max(probed_s, time.monotonic() - measure.age_s)
