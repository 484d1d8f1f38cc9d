"""How errors come together: the law is fitted to codewords that were drawn from it, event by event."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from airmoe.radio.error_events import fit_events

BITS = 512


def wrong_bits(events: float, burst: float, failed: bool, codewords: int = 10_000) -> NDArray[np.int64]:
    """The number of wrong bits of codewords; if ``failed``, only of those with an event."""
    rng = np.random.default_rng(0)
    counts = list[int]()
    while len(counts) < codewords:
        sizes = rng.geometric(1 / burst, rng.poisson(events))
        if len(sizes) or not failed:
            counts.append(len(np.unique(rng.integers(BITS, size=sizes.sum()))))
    return np.array(counts)


@pytest.mark.parametrize(
    ("events", "burst", "failed"),
    [(0.1, 4.0, False), (4.0, 9.0, False), (60.0, 1.5, False), (2.0, 13.0, True), (1.0, 20.0, True)],
)
def test_events_are_found_again(events: float, burst: float, failed: bool) -> None:
    found = fit_events(wrong_bits(events, burst, failed), BITS, failed)
    assert tuple(found) == pytest.approx((events, burst), rel=0.08)


@pytest.mark.parametrize("rate", [0.001, 0.1, 0.45])
def test_bits_that_err_by_themselves_are_events_of_one_hit(rate: float) -> None:
    """Of which there are -K ln(1 - p) for each bit to be hit at all with probability p."""
    wrong_W = np.random.default_rng(0).binomial(BITS, rate, 20_000)
    events, burst = fit_events(wrong_W, BITS, failed=False)
    assert burst == pytest.approx(1, abs=0.02)
    assert events == pytest.approx(-BITS * math.log1p(-rate), rel=0.03)


def test_errors_more_even_than_chance_are_taken_for_errors_by_themselves() -> None:
    events, burst = fit_events(np.full(10, 100), BITS, failed=False)
    assert (events, burst) == (pytest.approx(-BITS * math.log1p(-100 / BITS)), 1)


@pytest.mark.parametrize("wrong", [1, 2, 7])
def test_a_single_failed_codeword_can_be_fitted(wrong: int) -> None:
    events, burst = fit_events(np.array([wrong]), BITS, failed=True)
    assert events > 0
    assert burst >= 1


def test_codewords_that_fail_now_and_then_have_as_many_events_as_failures() -> None:
    wrong_W = np.array([0] * 990 + [3, 5, 1, 12, 2, 7, 4, 9, 1, 6])
    events, burst = fit_events(wrong_W, BITS, failed=False)
    assert events * burst == pytest.approx(wrong_W.mean(), rel=0.02)
    assert events == pytest.approx(0.01, rel=0.4)
