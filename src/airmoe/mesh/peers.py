"""How long each peer usually takes, and which peers are suspected: learnt from requests alone.

A peer is suspected once a request to it has been open for three times as long as it usually takes, and for
20 ms at least. Where nothing is known of it, it gets what the slowest of the others gets, and 60 ms at least.
How soon its asker gives up tells nothing. A suspected peer gets a trial request now and then; whoever sends
it does not wait for the answer. An answer about as quick as usual lets the peer in again.
"""

import math
import threading
import time
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from airmoe.checks import number_within
from airmoe.mesh.durations import Durations

HEDGE_S = 0.02
"""A request is open for this long, at least, before another expert is asked as well."""

TIMES_USUAL = 3.0
UNKNOWN_TIMES = 3.0
"""How many times `HEDGE_S` a peer gets, at least, of which nothing is known."""

FIRST_TIMES = 25.0
"""The same where nothing is known of any peer."""

EXTRA_SHARE = 0.05
"""The share of requests that may be asked beside others while no peer is suspected."""

EXTRA_AT_ONCE = 10.0
"""How many of them may come together."""

FIRST_TRIAL_S, LAST_TRIAL_S = 0.25, 1.0
"""How long a suspected peer is left alone: at first, and after several trials in vain."""

BUSY_S = 0.02
"""How long a peer that is overloaded is left alone."""

Peer = TypeVar("Peer", bound=Hashable)


@dataclass
class _Known:
    """What is known of one peer; times are by the clock."""

    took: Durations = field(default_factory=lambda: Durations(0.95))
    due_s: dict[int, float] = field(default_factory=dict)
    suspected: bool = False
    trial_s: float = 0.0
    busy_s: float = -math.inf
    pause_s: float = FIRST_TRIAL_S


class Peers(Generic[Peer]):
    """What requests told of each peer; any thread may ask.

    Args:
        hedge_s: seconds that a request is open, at least, before a peer is late; 0.001 to 3600.
        clock: returns seconds that only grow; tests bring their own.

    Raises:
        InvalidInputError: ``hedge_s`` is out of range.
    """

    def __init__(self, hedge_s: float = HEDGE_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._hedge_s = number_within("hedge_s", hedge_s, 0.001, 3600.0)
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[Peer, _Known] = {}
        self._extra = EXTRA_AT_ONCE

    def patience_s(self, peer: Peer, items: int) -> float:
        """Return how long a request of so many items may be open before the peer is late."""
        with self._lock:
            return self._patience_s(self._of(peer), items)

    def askable(self, peers: Iterable[Peer]) -> set[Peer]:
        """Return those of some peers that are neither suspected nor busy, or due for a trial."""
        askable, now_s = set(), self._clock()
        with self._lock:
            for peer in peers:
                known = self._of(peer)
                self._look(known)
                if now_s >= (known.trial_s if known.suspected else known.busy_s):
                    askable.add(peer)
        return askable

    def trusts(self, peer: Peer) -> bool:
        """Return whether a peer is not suspected."""
        with self._lock:
            known = self._of(peer)
            self._look(known)
            return not known.suspected

    def asked(self, peer: Peer, request_id: int, items: int) -> float:
        """Note that a peer is asked now; return how long to wait for it alone, 0 where it is a trial."""
        with self._lock:
            known, now_s = self._of(peer), self._clock()
            self._look(known)
            patience_s = self._patience_s(known, items)
            known.due_s[request_id] = now_s + patience_s
            self._extra = min(self._extra + EXTRA_SHARE, EXTRA_AT_ONCE)
            if not known.suspected:
                return patience_s
            known.pause_s = min(2 * known.pause_s, LAST_TRIAL_S)
            known.trial_s = now_s + known.pause_s
            return 0.0

    def answered(self, peer: Peer, request_id: int, items: int, took_s: float) -> None:
        """Note that a peer gave a good answer, so many seconds after it was asked."""
        with self._lock:
            known = self._of(peer)
            patience_s = self._patience_s(known, items)
            known.due_s.pop(request_id, None)
            if took_s <= 2 * patience_s or known.took.usual_s(items, self._clock()) is None:
                known.took.add(items, took_s, self._clock())
                self._forgive(known)

    def refused(self, peer: Peer, request_id: int, *, is_busy: bool) -> None:
        """Note that a peer will not answer a request. It said so, so it is not late, but it may be busy."""
        with self._lock:
            known = self._of(peer)
            known.due_s.pop(request_id, None)
            if is_busy:
                known.busy_s = self._clock() + BUSY_S

    def withdrawn(self, peer: Peer, request_id: int) -> None:
        """Note that nobody waits for the answer to a request any longer."""
        with self._lock:
            known = self._of(peer)
            self._look(known)
            known.due_s.pop(request_id, None)

    def ended(self, peer: Peer, request_id: int) -> None:
        """Note that no more will come for a request; a peer that gave no answer at all is suspected."""
        with self._lock:
            known = self._of(peer)
            if known.due_s.pop(request_id, None) is not None:
                self._suspect(known)

    def failed(self, peer: Peer) -> None:
        """Note that a peer gave a bad answer."""
        with self._lock:
            self._suspect(self._of(peer))

    def back(self, peer: Peer) -> None:
        """Note that a peer has come anew."""
        with self._lock:
            self._forgive(self._of(peer))

    def may_ask_beside(self, peer: Peer) -> bool:
        """Return whether an expert may be asked beside one at this late peer, and count it.

        It always may where the peer is suspected already. The first to find it late takes from the extra
        requests.
        """
        with self._lock:
            known = self._of(peer)
            if known.suspected:
                return True
            if self._extra < 1:
                return False
            self._extra -= 1
            self._look(known)
            return True

    def _of(self, peer: Peer) -> _Known:
        if (known := self._known.get(peer)) is None:
            known = self._known[peer] = _Known()
        return known

    def _look(self, known: _Known) -> None:
        """Suspect a peer that is late."""
        if known.due_s and not known.suspected and min(known.due_s.values()) < self._clock():
            self._suspect(known)

    def _suspect(self, known: _Known) -> None:
        if not known.suspected:
            known.suspected, known.pause_s = True, FIRST_TRIAL_S
            known.trial_s = self._clock() + FIRST_TRIAL_S

    def _forgive(self, known: _Known) -> None:
        known.suspected = False
        known.due_s.clear()

    def _patience_s(self, known: _Known, items: int) -> float:
        usual_s = known.took.usual_s(items, self._clock())
        if usual_s is not None:
            return max(self._hedge_s, TIMES_USUAL * usual_s)
        others = [other.took.usual_s(items, self._clock()) for other in self._known.values()]
        known_s = [usual_s for usual_s in others if usual_s is not None]
        if not known_s:
            return FIRST_TIMES * self._hedge_s
        return max(UNKNOWN_TIMES * self._hedge_s, TIMES_USUAL * max(known_s))
