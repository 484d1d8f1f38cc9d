"""The requests that wait at a scheduler until their slot closes; no clock, lock or network of its own."""

from typing import Generic, NamedTuple, TypeVar

LONGEST_SLOT_MS = 500
"""A client waits for half of its query's time, 1 s by default; longer slots would come too late."""

MAX_SLOT_REQUESTS = 256
MAX_SLOT_BYTES = 1 << 20
"""The most bytes of the open slot and the one being decided together. Their replies then fit into the buffers
to clients that stopped reading."""

Item = TypeVar("Item")


class Waiting(NamedTuple, Generic[Item]):
    """A request that waits.

    Attributes:
        item: the request.
        size: its bytes.
        arrived_s: when it came, by the monotonic clock.
    """

    item: Item
    size: int
    arrived_s: float


class SlotQueue(Generic[Item]):
    """The requests of the open slot; its bytes are bounded together with those of the slot being decided.

    Args:
        slot_s: seconds from a slot's first request until it closes.
    """

    def __init__(self, slot_s: float) -> None:
        self._slot_s = slot_s
        self._waiting: list[Waiting[Item]] = []
        self._taken_bytes = 0

    def add(self, request: Waiting[Item]) -> bool:
        """Let a request wait; return False where there is no room for it."""
        full = len(self._waiting) >= MAX_SLOT_REQUESTS or self._taken_bytes + request.size > MAX_SLOT_BYTES
        if not full:
            self._waiting.append(request)
            self._taken_bytes += request.size
        return not full

    def closes_in_s(self, now_s: float) -> float | None:
        """Return the seconds until the slot closes, 0 if it is due; None if it is empty."""
        if not self._waiting:
            return None
        return max(self._waiting[0].arrived_s + self._slot_s - now_s, 0.0)

    def take(self) -> list[Waiting[Item]]:
        """Close the slot and return its requests, in the order they came."""
        slot, self._waiting = self._waiting, []
        return slot

    def decided(self, slot: list[Waiting[Item]]) -> None:
        """Free the room of a slot that was taken."""
        self._taken_bytes -= sum(waiting.size for waiting in slot)
