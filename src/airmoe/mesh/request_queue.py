"""The requests that wait at a node: fair between askers, the most urgent of each first.

It has no clock, lock or network of its own.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

from airmoe.mesh.durations import Durations
from airmoe.mesh.frame import MAX_FRAME_BYTES

CREDITS = 16
"""How many requests of one asker may wait."""

CREDIT_BYTES = 8 << 20
"""How many bytes they may have, together; a single one may be larger."""

MAX_WAITING_BYTES = 4 * MAX_FRAME_BYTES
"""The most bytes that may wait, of all askers together."""

MOST_WAITING = 1024
"""The most requests that may wait, of all askers together: each weighs more than its bytes."""

OVERLOADED = "overloaded"
"""How a reason begins that holds for every request of an asker, not for one with little time."""

Item = TypeVar("Item")


@dataclass(eq=False)
class Waiting(Generic[Item]):
    """A request that waits.

    Attributes:
        item: the request.
        asker: who asks.
        request_id: unique for each asker.
        items: how many items it has.
        size: its bytes.
        ends_s: when its asker gives up.
    """

    item: Item
    asker: str
    request_id: int
    items: int
    size: int
    ends_s: float


class RequestQueue(Generic[Item]):
    """Requests of several askers, each of which gets the same share of the work while it has some.

    A request that cannot be done in time is not taken in, or dropped when its turn comes: computing it would
    make others late as well. A request larger than any before is taken to need no more than they did; once it
    is done, what its size takes is known.

    The shares are those of start-time fair queuing: an asker's tag grows by the seconds of each request that
    it had, the lowest tag is next, and who had nothing to do begins anew at the tag that was served last.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, list[Waiting[Item]]] = {}
        self._tag_s: dict[str, float] = {}
        self._served_s = 0.0
        self._bytes = self._count = 0
        self._took = Durations(0.5)

    def __len__(self) -> int:
        """How many requests wait."""
        return self._count

    @property
    def bytes(self) -> int:
        """How many bytes they have."""
        return self._bytes

    def add(self, request: Waiting[Item], now_s: float) -> str | None:
        """Let a request wait; return why where it may not."""
        own = self._waiting.get(request.asker, [])
        if why := self.is_full(request.asker, request.size):
            return why
        takes_s = {items: self._takes_s(items, now_s) for items in {each.items for each in own}}
        before_s = sum(takes_s[each.items] for each in own if each.ends_s <= request.ends_s)
        sharing = len(self._waiting) + (not own)
        needs_s, left_s = before_s * sharing + self._takes_s(request.items, now_s), request.ends_s - now_s
        if needs_s > left_s:
            return f"too late: it would take {needs_s:.3f} s, and its asker waits for {max(left_s, 0):.3f} s"
        if not own:
            self._waiting[request.asker] = own
            self._tag_s[request.asker] = max(self._tag_s.get(request.asker, 0.0), self._served_s)
        own.append(request)
        self._bytes += request.size
        self._count += 1
        return None

    def is_full(self, asker: str, size: int) -> str | None:
        """Return why a request of so many bytes cannot wait, whatever it says; None if it may."""
        own = self._waiting.get(asker, [])
        if len(own) >= CREDITS:
            return f"{OVERLOADED}: {len(own)} requests of this asker are waiting"
        if own and sum(each.size for each in own) + size > CREDIT_BYTES:
            return f"{OVERLOADED}: {CREDIT_BYTES} bytes of this asker would not hold what is waiting"
        if len(self) >= MOST_WAITING:
            return f"{OVERLOADED}: {len(self)} requests are waiting"
        if self._bytes + size > MAX_WAITING_BYTES:
            return f"{OVERLOADED}: too many bytes are waiting"
        return None

    def take(self, now_s: float) -> tuple[Waiting[Item] | None, list[Waiting[Item]]]:
        """Return the next request, if any waits, and those that are dropped: they would be late."""
        dropped: list[Waiting[Item]] = []
        while self._waiting:
            asker = min(self._waiting, key=self._tag_s.__getitem__)
            request = min(self._waiting[asker], key=lambda each: each.ends_s)
            self._remove(request)
            takes_s = self._takes_s(request.items, now_s)
            if now_s + takes_s <= request.ends_s:
                self._served_s = self._tag_s[asker]
                self._tag_s[asker] += takes_s
                if not self._waiting:
                    self._served_s = max(self._tag_s.values())
                self._forget_idle()
                return request, dropped
            dropped.append(request)
        return None, dropped

    def took(self, request: Waiting[Item], took_s: float, now_s: float) -> None:
        """Note how long a request took to compute."""
        self._took.add(request.items, took_s, now_s)

    def withdraw(self, asker: str, request_id: int) -> Waiting[Item] | None:
        """Remove and return a request that nobody waits for any longer, if it still waits."""
        for request in self._waiting.get(asker, []):
            if request.request_id == request_id:
                self._remove(request)
                return request
        return None

    def _remove(self, request: Waiting[Item]) -> None:
        own = self._waiting[request.asker]
        own.remove(request)
        self._bytes -= request.size
        self._count -= 1
        if not own:
            del self._waiting[request.asker]

    def _forget_idle(self) -> None:
        """Forget the tags of askers that would begin anew in any case."""
        for asker in [each for each, tag_s in self._tag_s.items() if tag_s <= self._served_s]:
            if asker not in self._waiting:
                del self._tag_s[asker]

    def _takes_s(self, items: int, now_s: float) -> float:
        return self._took.least_s(items, now_s) or 0.0
