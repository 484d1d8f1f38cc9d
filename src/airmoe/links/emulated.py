"""Links that go with the clock, for a real network that is to behave as a simulated one."""

import time
from collections.abc import Callable, Sequence

import numpy as np

from airmoe.checks import integer_at_least, number_within, positive_number
from airmoe.links.snapshot import Links
from airmoe.links.sources import Fading, refuse_mixed
from airmoe.randomness import stream


class EmulatedLinks:
    """A source of links that change with time, and what a message over them goes through.

    As `MeshClient(..., links=source)` it is what gate and policy see. As `MeshClient(..., emulated=source)`
    it makes the client's messages as slow as these links, or loses them.

    Args:
        links: snapshots one after another, e.g. of a measured trace by `link_sequence`, after the last the
            first again; or a fading process.
        slot_s: how long each of them holds, s.
        delay_s: what every message takes besides, each way, 0 to 60 s.
        loss: the probability that a message is lost, each way, 0 to 1.
        seed: of the losses, >= 0.
        clock: returns seconds that only grow; tests bring their own.

    Raises:
        InvalidInputError: no links, links between different numbers of nodes, or a number out of range.

    Examples:
        >>> from airmoe.links import EmulatedLinks, Links, Ofdma
        >>> slow = Links.from_snr(0.0, Ofdma(subcarriers=1, subcarrier_hz=4e6), nodes=2)  # 4 Mbit/s
        >>> EmulatedLinks([slow], delay_s=0.01).carries_s(0, 1, 400_000)
        0.1
    """

    def __init__(
        self,
        links: Sequence[Links] | Fading,
        *,
        slot_s: float = 1.0,
        delay_s: float = 0.0,
        loss: float = 0.0,
        seed: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._links = links
        if isinstance(links, Sequence):
            refuse_mixed("emulated", links)
        self._slot_s = positive_number("slot_s", slot_s)
        self.delay_s = number_within("delay_s", delay_s, 0.0, 60.0)
        self._loss = number_within("loss", loss, 0.0, 1.0)
        self._seed = integer_at_least("seed", seed, 0)
        self._random: dict[tuple[int, int], np.random.Generator] = {}
        self._clock, self._begin_s = clock, clock()
        self._now: tuple[int, Links] | None = None

    def current(self) -> Links:
        """Return the links of this moment, the same object throughout a slot."""
        slot = int((self._clock() - self._begin_s) / self._slot_s)
        if (now := self._now) is None or now[0] != slot:
            links = self._links
            now = slot, links[slot % len(links)] if isinstance(links, Sequence) else links.at(slot)
            self._now = now
        return now[1]

    def carries_s(self, source: int, node: int, bits: float) -> float | None:
        """Return how long a message occupies its link now, or None where the link has no rate.

        A link has its best subcarrier to itself.
        """
        links = self.current()
        rate_bps = float(links.radio.rate_bps(links.gain_NNM[source, node]).max())
        return bits / rate_bps if rate_bps > 0 else None

    def loses(self, source: int, node: int) -> bool:
        """Draw whether the next message over a link is lost; each link has draws of its own."""
        random = self._random.get((source, node))
        if random is None:
            random = self._random[source, node] = stream(self._seed, "emulated loss", source, node)
        return bool(random.random() < self._loss)
