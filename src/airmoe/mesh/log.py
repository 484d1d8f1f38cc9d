"""The log of the mesh: at most one line a second of each kind about each peer, whatever peers send.

A line names its peer by ``extra=about(peer)``; lines that name none are about this process and all come.
What a line says before its values are filled in is its kind. The first line of a kind comes at once. The next
ones are held back for a second. Then the last of them comes, with the number of the others.

No handler, level or formatter is touched: they are those of whoever uses the library.
"""

import atexit
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

LINE_S = 1.0
"""How long after a line the next one of its kind about the same peer comes."""

MOST_LOG_LINES = 64
"""How many lines are remembered. What exceeds them shares a line for each kind: peers can invent names."""

PEER_NAME_LENGTH = 48
"""How much of a peer's name is told; an honest one is shorter."""


@dataclass
class _Line:
    """A line that came, and those of its kind that are held back since."""

    until_s: float
    held: logging.LogRecord | None = None
    count: int = 0

    def take(self, now_s: float) -> int:
        """Return how many are held, and hold none; the next may come a second later."""
        count, self.held, self.count, self.until_s = self.count, None, 0, now_s + LINE_S
        return count


class OneLineASecond(logging.Filter):
    """Lets a record of the mesh pass, or holds it back; any thread may log.

    Args:
        emit: gets a held record when its second is over.
        clock: returns seconds that only grow.
        later: calls a function after some seconds, on another thread.
    """

    def __init__(
        self,
        emit: Callable[[logging.LogRecord], None],
        clock: Callable[[], float] = time.monotonic,
        later: Callable[[float, Callable[[], None]], None] | None = None,
    ) -> None:
        super().__init__()
        self._emit, self._clock, self._later = emit, clock, later or _on_another_thread
        self._lock = threading.Lock()
        self._lines: dict[tuple[str | None, str], _Line] = {}
        self._is_due = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record comes now; one that is held back comes by ``emit``, if it is the last."""
        peer, kind, text = getattr(record, "peer", None), str(record.msg), record.getMessage()
        if not text.isprintable():
            text = printable(text)
            record.msg, record.args = text, None
        if peer is None:
            return True
        with self._lock:
            now_s = self._clock()
            peer, line = self._line_of(peer, kind, now_s)
            if now_s >= line.until_s:
                _count(record, line.take(now_s), peer)
                return True
            record.msg, record.args = text, None  # no value that a peer sent, nor a traceback, is kept
            record.exc_info = record.exc_text = None
            line.held, line.count = record, line.count + 1
            begins, self._is_due = not self._is_due, True
        if begins:
            self._later(LINE_S, self.tell_held)
        return False

    def counts(self, peer: str, kind: str) -> bool:
        """Count one more line of a kind where one is held back; return whether one is.

        A line that a flood of requests would make is told by its number alone: to write it takes longer.
        """
        line = self._lines.get((peer, kind))
        if line is None or line.held is None:
            return False
        with self._lock:
            if line.held is None or self._clock() >= line.until_s:
                return False
            line.count += 1
            return True

    def tell_held(self, *, at_end: bool = False) -> None:
        """Emit what is held back and due, or all of it at the end of the process."""
        due, left_s = [], []
        with self._lock:
            now_s = self._clock()
            for (peer, _), line in self._lines.items():
                if line.held is None:
                    continue
                if at_end or now_s >= line.until_s:
                    record = line.held
                    _count(record, line.take(now_s) - 1, peer)
                    due.append(record)
                else:
                    left_s.append(line.until_s - now_s)
            self._is_due = bool(left_s)
        for record in due:
            self._emit(record)
        if left_s:
            self._later(min(left_s), self.tell_held)

    def _line_of(self, peer: str, kind: str, now_s: float) -> tuple[str | None, _Line]:
        """Return the last line of a kind about a peer; about several, None, where there are too many."""
        key: tuple[str | None, str] = peer, kind
        if key not in self._lines and len(self._lines) >= MOST_LOG_LINES:
            for other, line in list(self._lines.items()):
                if line.held is None and now_s >= line.until_s:
                    del self._lines[other]
            if len(self._lines) >= MOST_LOG_LINES:
                key = None, kind  # of as many kinds as the source has
        return key[0], self._lines.setdefault(key, _Line(now_s))


def is_counted(peer: str, kind: str) -> bool:
    """Return whether the log needs no further line of a kind about a peer for now; it is counted then."""
    return any(limit.counts(peer, kind) for limit in mesh_log.filters if isinstance(limit, OneLineASecond))


def about(peer: str) -> dict[str, str]:
    """Return what a record needs to name its peer."""
    return {"peer": peer}


def about_node(node: int | str) -> dict[str, str]:
    """Return what a record needs to name a node as its peer."""
    return {"peer": f"node {node}"}


def printable(text: str) -> str:
    """Return a text in one line: what does not print is escaped. Peers may send anything."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def _count(record: logging.LogRecord, more: int, peer: str | None) -> None:
    """Tell in a record how many others of its kind did not come."""
    if more:
        of_whom = "" if peer is not None else ", of several peers"
        record.msg = f"{record.getMessage()} (and {more} more like this{of_whom})"
        record.args = None
        record.__dict__["left_out"] = more


def _on_another_thread(after_s: float, call: Callable[[], None]) -> None:
    timer = threading.Timer(after_s, call)
    timer.name, timer.daemon = "airmoe log", True
    with suppress(RuntimeError):  # the interpreter ends; atexit tells what is held
        timer.start()


mesh_log = logging.getLogger("airmoe.mesh")
_limit = OneLineASecond(mesh_log.callHandlers)
mesh_log.addFilter(_limit)
atexit.register(_limit.tell_held, at_end=True)
