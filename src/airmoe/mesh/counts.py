"""What a node did, in numbers. To count a request takes a few microseconds; any thread may."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from airmoe.mesh.log import PEER_NAME_LENGTH, printable

Refusal = Literal["overloaded", "late", "wrong", "stranger", "closing", "failed"]
"""Why a request was refused.

``overloaded``: too many wait. ``late``: it could not be answered in time, or its turn came too late.
``wrong``: it is corrupt, of another shape or for another model. ``stranger``: the roster does not have who
asks. ``closing``: the node ends. ``failed``: the node's own fault, or whoever asked is gone.
"""

MOST_ASKERS = 64
"""How many askers are counted each by name. Without an identity, names can be invented."""

OTHER_ASKERS = "other"
"""The name of all others together."""


@dataclass(frozen=True)
class Counted:
    """The counts of a moment.

    Attributes:
        answered: requests that were answered, by asker.
        items: that these requests had.
        refused: requests that were refused, by reason; every reason is there.
        busy_s: seconds spent on requests, the one at hand included.
        at_hand_s: seconds since the request at hand was begun; 0 if there is none.
        since_s: when counting began, Unix time.
    """

    answered: Mapping[str, int]
    items: int
    refused: Mapping[Refusal, int]
    busy_s: float
    at_hand_s: float
    since_s: float


class Counts:
    """Counts what a node does.

    Args:
        clock: returns seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._since_s = clock, time.time()
        self._lock = threading.Lock()
        self._answered, self._items = Counter[str](), 0
        self._refused: dict[Refusal, int] = dict.fromkeys(get_args(Refusal), 0)
        self._busy_s = 0.0
        self._begun_s: float | None = None

    def begun(self) -> None:
        """Note that a request is at hand from now on."""
        with self._lock:
            self._begun_s = self._clock()

    def ended(self) -> None:
        """Note that it no longer is."""
        with self._lock:
            self._busy_s += self._at_hand_s()
            self._begun_s = None

    def answered(self, asker: str, items: int) -> None:
        """Count a request that was answered."""
        asker = printable(asker[:PEER_NAME_LENGTH])
        with self._lock:
            is_known = asker in self._answered or len(self._answered) < MOST_ASKERS
            self._answered[asker if is_known else OTHER_ASKERS] += 1
            self._items += items

    def refused(self, why: Refusal) -> None:
        """Count a request that was refused."""
        with self._lock:
            self._refused[why] += 1

    def now(self) -> Counted:
        """Return the counts of now."""
        with self._lock:
            at_hand_s = self._at_hand_s()
            return Counted(
                MappingProxyType(dict(self._answered)),
                self._items,
                MappingProxyType(dict(self._refused)),
                self._busy_s + at_hand_s,
                at_hand_s,
                self._since_s,
            )

    def _at_hand_s(self) -> float:
        return 0.0 if self._begun_s is None else self._clock() - self._begun_s
