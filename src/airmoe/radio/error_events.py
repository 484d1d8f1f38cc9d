"""A model of decoder errors that come in bursts. The fast chain draws the wrong bits of a codeword from it.

The model is ours. A codeword has a Poisson number of error events. Each event makes a geometric number of
hits, ``burst`` on average. Each hit falls on one of the K bits of the codeword, all equally likely. A bit is
wrong if it is hit at least once. Take any fixed share x of the bits. One event hits at least one of them with
probability r(x) = x / (x + (1 - x) / burst). All events together hit none of them with probability

    exp(-events r(x)).

Mean and variance of the number of wrong bits follow from that. With a burst of 1, bits err independently.

Shape suffixes: W codewords.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FEWEST_EVENTS = 1e-6


class Events(NamedTuple):
    """The error events of a codeword.

    Attributes:
        events: the mean of the Poisson number of events. For codewords that failed, this is the mean before
            conditioning on at least one event.
        burst: the mean number of hits of one event.
    """

    events: float
    burst: float


def fit_events(wrong_W: NDArray[np.int64], bits: int, failed: bool) -> Events:
    """Return the events under which the number of wrong bits has the mean and the variance of the sample.

    The burst is 1 where the variance is no larger than that of bits that err independently.

    Args:
        wrong_W: the number of wrong bits of each codeword, with at least one wrong bit overall.
        bits: K, at least 2.
        failed: True if these are the codewords that failed, so that each had at least one event.
    """
    from scipy.optimize import brentq

    one = float(wrong_W.mean()) / bits
    two = float((wrong_W * (wrong_W - 1.0)).mean()) / (bits * (bits - 1))

    def excess(burst: float) -> float:
        """The model's probability that two given bits are wrong, less the sample's."""
        events = _events(one, bits, burst, failed)
        return _both_hit(bits, events, burst, failed) - two

    longest = 10.0 * bits
    if failed:  # the longest burst is that of exactly one event in every codeword
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

    # Codewords that failed need fewer events than `most`; the factor covers rounding where events are many.
    return FEWEST_EVENTS if gap(FEWEST_EVENTS) >= 0 else float(brentq(gap, FEWEST_EVENTS, 1.001 * most))


def _both_hit(bits: int, events: float, burst: float, failed: bool) -> float:
    """Return the probability that two given bits are both hit."""
    one, two = (_missed(count / bits, events, burst, failed) for count in (1, 2))
    return 1 - 2 * one + two


def _missed(share: float, events: float, burst: float, failed: bool) -> float:
    """Return the probability that no bit of a given share of the bits is hit."""
    missed = math.exp(-events * _reach(share, burst))
    return (missed - math.exp(-events)) / -math.expm1(-events) if failed else missed


def _reach(share: float, burst: float) -> float:
    """Return r, the probability that one event hits at least one bit of a given share."""
    return share / (share + (1 - share) / burst)
