"""How long requests usually take, by how many items they have."""

from collections import deque

REMEMBERED_S = 60.0
REMEMBERED = 32
"""How many durations are remembered for each size of request, and for how long."""


class Durations:
    """Durations of late, by the size of a request in powers of two.

    Args:
        quantile: which of them counts as usual, from 0 to 1.
    """

    def __init__(self, quantile: float) -> None:
        self._quantile = quantile
        self._took_s: dict[int, deque[tuple[float, float]]] = {}

    def add(self, items: int, took_s: float, now_s: float) -> None:
        """Note what a request of so many items took."""
        of_size = self._took_s.setdefault(items.bit_length(), deque(maxlen=REMEMBERED))
        of_size.append((now_s, took_s))

    def usual_s(self, items: int, now_s: float) -> float | None:
        """Return what a request of so many items usually takes; None where nothing is known of late.

        Where this size was never seen, the nearest smaller one is taken to grow with the items, or the
        nearest larger one as it is.
        """
        self._forget(now_s)
        if not self._took_s:
            return None
        wanted = items.bit_length()
        nearest = max((size for size in self._took_s if size <= wanted), default=min(self._took_s))
        return self._usual_s(nearest) * 2.0 ** max(wanted - nearest, 0)

    def least_s(self, items: int, now_s: float) -> float | None:
        """Return what a request of so many items takes at least, as far as is known; None where nothing is.

        That is what the nearest size usually takes that is no larger.
        """
        self._forget(now_s)
        nearest = max((size for size in self._took_s if size <= items.bit_length()), default=None)
        return None if nearest is None else self._usual_s(nearest)

    def _usual_s(self, size: int) -> float:
        took_s = sorted(each for _, each in self._took_s[size])
        return took_s[min(int(self._quantile * len(took_s)), len(took_s) - 1)]

    def _forget(self, now_s: float) -> None:
        for size in list(self._took_s):
            of_size = self._took_s[size]
            while of_size and now_s - of_size[0][0] > REMEMBERED_S:
                of_size.popleft()
            if not of_size:
                del self._took_s[size]
