"""What a client asked about images, in numbers. To count an answer takes microseconds; any thread may."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from airmoe.errors import NoExpertReachedError
from airmoe.mesh.answer import Answer
from airmoe.mesh.reports import AskedReport


class Tally:
    """Counts what a client asks about images, and what becomes of it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._batches = self._failed = self._items = self._degraded = 0
        self._energy_j = self._elapsed_s = 0.0

    def answered(self, answer: Answer) -> None:
        """Count a batch that was answered."""
        degraded_T = answer.degraded_T
        degraded, energy_j = int(degraded_T.sum()), float(answer.dispatched.energy_j_T.sum())
        with self._lock:
            self._batches += 1
            self._items += len(degraded_T)
            self._degraded += degraded
            self._energy_j += energy_j
            self._elapsed_s += answer.elapsed_s

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Count a batch about which too few experts answer."""
        try:
            yield
        except NoExpertReachedError:
            with self._lock:
                self._failed += 1
            raise

    def now(self) -> AskedReport:
        """Return the counts of now."""
        with self._lock:
            return AskedReport(
                batches=self._batches,
                failed=self._failed,
                items=self._items,
                degraded=self._degraded,
                energy_j=self._energy_j,
                elapsed_s=self._elapsed_s,
            )
