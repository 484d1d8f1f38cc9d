"""The links of this moment as they were measured: what a gate and a policy see of a real network."""

import math
import threading
import time

import numpy as np

from airmoe.checks import positive_number
from airmoe.errors import MeshError
from airmoe.links import Links, Ofdma
from airmoe.mesh.link_meter import LinkMeter, spectral_snr_db

CHANNEL_HZ = 20e6
"""The width of a channel: one of Wi-Fi."""

MOST_BITS_PER_HZ = 10.0
"""The most that a channel is taken to carry: 30 dB, as of an expert to itself. Faster links count as this."""

LINKS_FOR_S = 0.1
"""How long measured links stay the same, at least: to price others takes longer than a query."""

LARGEST_CHANGE = 0.2
"""By how much of itself a rate may change while the links stay the same."""


class MeasuredLinks:
    """A source of links that a client measures itself: by its requests, and by probes while it is idle.

    A rate is told as the signal-to-noise ratio at which a channel carries it; so a bit costs the power
    divided by the rate. A link counts as good until it is measured. A client knows its own links alone:
    those between two other nodes are out of reach.

    Args:
        power_w: what the radio of this device takes while it sends, W, as measured; default what the run's
            simulated radio sends with, and energy is modelled then.
        channel_hz: the width of the channel, Hz.

    Raises:
        InvalidInputError: a value is not a finite number above 0.

    Examples:
        >>> from airmoe.mesh import MeasuredLinks
        >>> links = MeasuredLinks(power_w=1.2)
        >>> # with MeshClient(folder, addresses, links=links) as client: ...
    """

    def __init__(self, power_w: float | None = None, channel_hz: float = CHANNEL_HZ) -> None:
        self._power_w = None if power_w is None else positive_number("power_w", power_w)
        self._channel_hz = positive_number("channel_hz", channel_hz)
        self._lock = threading.Lock()
        self._meter: LinkMeter | None = None
        self._links: Links | None = None
        self._rate_N: list[float] = []
        self._made_s, self._changes = -math.inf, -1

    def measured_by(self, meter: LinkMeter, radio: Ofdma, nodes: int, here: int) -> None:
        """Go by what a client measures.

        Args:
            meter: the client's.
            radio: the run's simulated one.
            nodes: N.
            here: the client's node.

        Raises:
            MeshError: another client measures them already.
        """
        if self._meter is not None:
            raise MeshError("these links are another client's already; expected a source for each client")
        power_w = radio.power_w if self._power_w is None else self._power_w
        self._radio = Ofdma(
            subcarriers=1,
            subcarrier_hz=self._channel_hz,
            power_w=power_w,
            charge_return=radio.charge_return,
            shared=False,
        )
        self._meter, self._nodes, self._here = meter, nodes, here

    def current(self) -> Links:
        """Return the links as measured, the same object as long as nothing changes much.

        Raises:
            MeshError: no client measures them.
        """
        if self._meter is None:
            raise MeshError("no client measures these links; expected MeshClient(..., links=MeasuredLinks())")
        with self._lock:
            now_s, changes = time.monotonic(), self._meter.changes
            is_old = self._links is None or now_s - self._made_s > LINKS_FOR_S
            if is_old and (changes != self._changes or self._links is None):
                self._made_s, self._changes = now_s, changes
                self._measure(self._meter)
            assert self._links is not None
            return self._links

    def _measure(self, meter: LinkMeter) -> None:
        rate_N = [self._known_bps(meter.measure(node).rate_bps) for node in range(self._nodes)]
        if self._links is not None and all(map(_is_much_the_same, rate_N, self._rate_N)):
            return
        self._rate_N = rate_N
        snr_db_NN = np.full((self._nodes, self._nodes), -np.inf)
        for node, rate_bps in enumerate(rate_N):
            snr_db = spectral_snr_db(rate_bps, self._channel_hz)
            snr_db_NN[self._here, node] = snr_db_NN[node, self._here] = snr_db
        self._links = Links.from_snr(snr_db_NN, self._radio)

    def _known_bps(self, rate_bps: float | None) -> float:
        """Return a rate, but not above what a channel carries; and that where none is known."""
        most_bps = MOST_BITS_PER_HZ * self._channel_hz
        return most_bps if rate_bps is None else min(rate_bps, most_bps)


def _is_much_the_same(rate_bps: float, before_bps: float) -> bool:
    return abs(rate_bps - before_bps) <= LARGEST_CHANGE * before_bps
