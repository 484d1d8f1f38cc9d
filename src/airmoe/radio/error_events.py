"""Wrong bits come together: how the fast chain draws the number of wrong bits of a codeword (ours).

A decoder is rarely wrong in one bit alone. Wrong bits are taken for the traces of events: a codeword has a
Poisson number of them, and each makes a geometric number of hits, ``burst`` on average. Every hit falls on
any of the K bits of the codeword, and a bit that is hit at all is wrong. An event hits a bit of a share x of
them with probability r(x) = x / (x + (1 - x) / burst), and no bit of them is hit with probability

    exp(-events r(x)),

from which follow mean and variance of the number of wrong bits. With a burst of 1 bits err by themselves.

Shape suffixes: W codewords.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FEWEST_EVENTS = 1e-6


class Events(NamedTuple):
    """How errors come in a codeword.

    Attributes:
        events: their mean number; of codewords that failed, before it is known that there was one at least.
        burst: the mean number of hits of one event.
    """

    events: float
    burst: float


def fit_events(wrong_W: NDArray[np.int64], bits: int, failed: bool) -> Events:
    """Return the events that give the number of wrong bits its mean and its variance.

    Where the variance is no larger than that of bits that err by themselves, the burst is 1.

    Args:
        wrong_W: how many bits of each codeword are wrong, at least one in all.
        bits: K, at least 2.
        failed: whether these are the codewords that failed: each had one event at least.
    """
    from scipy.optimize import brentq

    one = float(wrong_W.mean()) / bits
    two = float((wrong_W * (wrong_W - 1.0)).mean()) / (bits * (bits - 1))

    def excess(burst: float) -> float:
        """How much likelier than it is it would be that two bits are wrong, the rate of one being right."""
        events = _events(one, bits, burst, failed)
        return _both_hit(bits, events, burst, failed) - two

    longest = 10.0 * bits
    if failed:  # a single event, for certain
        longest = max(one * (bits - 1) / (1 - one), 1.0)
    if excess(1.0) >= 0:
        burst = 1.0
    elif excess(longest) <= 0:
        burst = longest
    else:
        burst = float(brentq(excess, 1.0, longest))
    return Events(_events(one, bits, burst, failed), burst)


def _events(one: float, bits: int, burst: float, failed: bool) -> float:
    """Return the mean number of events that makes a bit wrong with probability ``one``."""
    from scipy.optimize import brentq

    most = -math.log1p(-one) / _reach(1 / bits, burst)
    if not failed:
        return most

    def gap(events: float) -> float:
        return 1 - _missed(1 / bits, events, burst, failed) - one

    # With one event for certain fewer are enough; where there are many anyhow it is a matter of rounding.
    return FEWEST_EVENTS if gap(FEWEST_EVENTS) >= 0 else float(brentq(gap, FEWEST_EVENTS, 1.001 * most))


def _both_hit(bits: int, events: float, burst: float, failed: bool) -> float:
    one, two = (_missed(count / bits, events, burst, failed) for count in (1, 2))
    return 1 - 2 * one + two


def _missed(share: float, events: float, burst: float, failed: bool) -> float:
    """Return the probability that no bit of a share of them is hit."""
    missed = math.exp(-events * _reach(share, burst))
    return (missed - math.exp(-events)) / -math.expm1(-events) if failed else missed


def _reach(share: float, burst: float) -> float:
    return share / (share + (1 - share) / burst)
