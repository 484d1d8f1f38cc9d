"""What the links from here to other nodes give, measured by the messages that go over them.

A message and its answer take the latency of the link, and their bits divided by its rate. What the node
needed itself is taken off before. Messages of different sizes tell latency and rate apart.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

MEASURED_FOR_S = 60.0
"""How long a message tells of its link."""

LATEST = 2
"""How many messages of a size tell of a link, the latest: by the quicker one, since all else delays them."""

TIMES_SLOWER = 3.0
"""A message that takes so many times as long as those before counts alone, and its link is probed at once."""

TIMES_LARGER = 4.0
"""How much larger a message is, at least, that tells the rate beside a small one."""

FASTEST_BPS = 1e9
"""The highest rate that is told: what is faster cannot be told from the noise of a computer's clock."""


@dataclass(frozen=True)
class LinkMeasure:
    """What is known of the link to a node.

    Attributes:
        node: the other end.
        latency_s: what a message without bits and its answer take; None where nothing is known of late.
        rate_bps: bits a second, both ways together, at most `FASTEST_BPS`; None where messages were all of
            one size.
        messages, unanswered: how many were sent, and to how many nothing came back.
        sent_bytes, received_bytes: in messages that were answered.
        age_s: since the link told anything of itself; None where it never did.
    """

    node: int
    latency_s: float | None = None
    rate_bps: float | None = None
    messages: int = 0
    unanswered: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    age_s: float | None = None


@dataclass
class _Link:
    messages: int = 0
    unanswered: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    told_s: float | None = None
    is_surprising: bool = False
    samples: dict[int, deque[tuple[float, int, float]]] = field(default_factory=dict)
    """By the size of messages: when the answer came, bits, seconds."""


class LinkMeter:
    """Measures links; any thread may use it.

    ``changes`` grows with every answer.

    Args:
        clock: returns seconds that only grow; tests bring their own.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._links: dict[int, _Link] = {}
        self.changes = 0

    def answered(self, node: int, sent_bytes: int, received_bytes: int, took_s: float) -> None:
        """Note a message to a node, and its answer after so many seconds without the node's own."""
        with self._lock:
            link = self._of(node)
            link.messages += 1
            link.sent_bytes += sent_bytes
            link.received_bytes += received_bytes
            self._learn(link, 8 * (sent_bytes + received_bytes), took_s)

    def held_up(self, node: int, sent_bytes: int, least_s: float) -> None:
        """Note that a message took so many seconds at least, and was not answered.

        That tells of the link where smaller messages are answered; else nobody may be there.
        """
        with self._lock:
            link, bits = self._of(node), 8 * sent_bytes
            if any(of_size[-1][1] * TIMES_LARGER <= bits for of_size in link.samples.values()):
                self._learn(link, bits, least_s)

    def _learn(self, link: _Link, bits: int, took_s: float) -> None:
        link.told_s = now_s = self._clock()
        of_size = link.samples.setdefault(bits.bit_length(), deque(maxlen=LATEST))
        if of_size and took_s > TIMES_SLOWER * min(before_s for _, _, before_s in of_size):
            link.is_surprising = True
            of_size.clear()
        of_size.append((now_s, bits, took_s))
        self.changes += 1

    def surprising(self, nodes: Iterable[int]) -> list[int]:
        """Return those of some nodes to which a link surprised since this was asked last."""
        with self._lock:
            found = [node for node in nodes if self._of(node).is_surprising]
            for node in found:
                self._of(node).is_surprising = False
            return found

    def unanswered(self, node: int) -> None:
        """Note a message to a node to which nothing came back."""
        with self._lock:
            link = self._of(node)
            link.messages += 1
            link.unanswered += 1

    def measure(self, node: int) -> LinkMeasure:
        """Return what is known of the link to a node."""
        with self._lock:
            link, now_s = self._of(node), self._clock()
            latency_s, rate_bps = _latency_and_rate(_sizes(link, now_s))
            return LinkMeasure(
                node,
                latency_s,
                rate_bps,
                link.messages,
                link.unanswered,
                link.sent_bytes,
                link.received_bytes,
                None if link.told_s is None else now_s - link.told_s,
            )

    def _of(self, node: int) -> _Link:
        return self._links.setdefault(node, _Link())


@dataclass(frozen=True)
class _Size:
    """Messages of a size: bits and seconds of the quickest, and when the last one was answered."""

    bits: float
    took_s: float
    told_s: float


def _sizes(link: _Link, now_s: float) -> list[_Size]:
    """Return what messages of each size tell, the smallest first."""
    sizes = []
    for size in sorted(link.samples):
        of_size = link.samples[size]
        while of_size and now_s - of_size[0][0] > MEASURED_FOR_S:
            of_size.popleft()
        if of_size:
            _, bits, took_s = min(of_size, key=lambda sample: sample[2])
            sizes.append(_Size(bits, took_s, of_size[-1][0]))
        else:
            del link.samples[size]
    return sizes


def _latency_and_rate(sizes: list[_Size]) -> tuple[float | None, float | None]:
    """Return both by the smallest messages, and by the latest ones that are much larger."""
    if not sizes:
        return None, None
    small = sizes[0]
    larger = [size for size in sizes if size.bits >= TIMES_LARGER * small.bits]
    if not larger:
        return small.took_s, None
    large = max(larger, key=lambda size: (size.told_s, size.bits))
    longer_s = large.took_s - small.took_s
    rate_bps = min((large.bits - small.bits) / longer_s, FASTEST_BPS) if longer_s > 0 else FASTEST_BPS
    return max(small.took_s - small.bits / rate_bps, 0.0), rate_bps


def spectral_snr_db(rate_bps: float, channel_hz: float) -> float:
    """Return the signal-to-noise ratio, dB, at which a channel of this width carries this rate (Shannon)."""
    return 10 * math.log10(math.expm1(rate_bps / channel_hz * math.log(2)))
