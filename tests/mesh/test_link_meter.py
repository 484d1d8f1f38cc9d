"""Links are measured by the messages that go over them: latency and rate are told apart."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airmoe.mesh.link_meter import FASTEST_BPS, LATEST, MEASURED_FOR_S, LinkMeter, spectral_snr_db


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def sent(meter: LinkMeter, size: int, latency_s: float, rate_bps: float, more_s: float = 0.0) -> None:
    """Note a message to node 3 over a link of this kind, half of its bytes on the way back."""
    meter.answered(3, size // 2, size // 2, latency_s + 8 * (size // 2) * 2 / rate_bps + more_s)


def test_two_sizes_tell_latency_and_rate_exactly() -> None:
    meter = LinkMeter()
    sent(meter, 64, 0.002, 4e6)
    sent(meter, 32768, 0.002, 4e6)
    measure = meter.measure(3)
    assert measure.rate_bps == pytest.approx(4e6)
    assert measure.latency_s == pytest.approx(0.002)
    assert (measure.messages, measure.unanswered) == (2, 0)
    assert (measure.sent_bytes, measure.received_bytes) == (32 + 16384, 32 + 16384)


@given(
    latency_s=st.floats(1e-5, 1.0),
    rate_bps=st.floats(1e4, FASTEST_BPS * 0.99),
    sizes=st.lists(st.integers(2, 10**7), min_size=1, max_size=40),
)
def test_whatever_is_sent_over_a_quiet_link_its_rate_and_latency_come_out(
    latency_s: float, rate_bps: float, sizes: list[int]
) -> None:
    meter = LinkMeter()
    for size in [64, *sizes, 1 << 24]:
        sent(meter, size, latency_s, rate_bps)
    measure = meter.measure(3)
    assert measure.rate_bps == pytest.approx(rate_bps, rel=1e-3)
    assert measure.latency_s == pytest.approx(latency_s, rel=1e-3, abs=1e-6)


def test_a_message_that_is_much_slower_is_believed_and_surprising_until_the_next_one() -> None:
    meter = LinkMeter()
    for _ in range(5):
        sent(meter, 64, 0.001, 1e7)
        sent(meter, 32768, 0.001, 1e7)
    assert meter.surprising([3, 4]) == []
    sent(meter, 32768, 0.001, 1e7, more_s=3.0)
    assert meter.surprising([3, 4]) == [3]
    assert meter.surprising([3, 4]) == []
    assert meter.measure(3).rate_bps == pytest.approx(8 * 32768 / 3.03, rel=0.01)
    sent(meter, 32768, 0.001, 1e7)
    assert meter.measure(3).rate_bps == pytest.approx(1e7)


def test_a_message_that_is_a_little_late_changes_nothing() -> None:
    meter = LinkMeter()
    for number in range(5):
        sent(meter, 64, 0.001, 1e7)
        sent(meter, 32768, 0.001, 1e7, more_s=0.03 if number == 4 else 0.0)
    assert meter.measure(3).rate_bps == pytest.approx(1e7)
    assert meter.surprising([3]) == []


def test_the_latest_of_the_large_messages_tell_the_rate_whatever_their_size() -> None:
    meter = LinkMeter()
    for size in (64, 32768, 1 << 20):
        sent(meter, size, 0.001, 1e8)
    sent(meter, 32768, 0.001, 4e6)
    assert meter.measure(3).rate_bps == pytest.approx(4e6, rel=0.01)
    sent(meter, 1 << 20, 0.001, 1e8)
    assert meter.measure(3).rate_bps == pytest.approx(1e8, rel=0.01)


def test_a_message_without_answer_tells_of_the_link_where_smaller_ones_are_answered() -> None:
    meter = LinkMeter()
    meter.held_up(3, 32768, 2.0)
    assert meter.measure(3).rate_bps is meter.measure(3).latency_s is None
    sent(meter, 64, 0.001, 1e8)
    meter.held_up(3, 64, 2.0)
    assert meter.measure(3).rate_bps is None
    meter.held_up(3, 32768, 2.0)
    assert meter.measure(3).rate_bps == pytest.approx(8 * 32768 / 2, rel=0.01)


def test_messages_of_one_size_tell_no_rate_and_no_message_nothing() -> None:
    meter = LinkMeter()
    for _ in range(9):
        sent(meter, 1000, 0.001, 1e7)
    assert meter.measure(3).rate_bps is None
    assert meter.measure(3).latency_s == pytest.approx(0.001 + 8000 / 1e7)
    nothing = meter.measure(4)
    assert (nothing.latency_s, nothing.rate_bps, nothing.age_s, nothing.messages) == (None, None, None, 0)


def test_what_cannot_be_told_from_noise_counts_as_the_fastest() -> None:
    meter = LinkMeter()
    meter.answered(3, 64, 0, 0.002)
    meter.answered(3, 32768, 0, 0.001)  # sooner than the small one
    assert meter.measure(3).rate_bps == FASTEST_BPS
    assert meter.measure(3).latency_s == pytest.approx(0.002, rel=0.01)


def test_what_is_old_is_forgotten_and_the_counts_stay() -> None:
    clock = Clock()
    meter = LinkMeter(clock)
    sent(meter, 64, 0.001, 1e7)
    sent(meter, 32768, 0.001, 1e7)
    meter.unanswered(3)
    clock.now_s = MEASURED_FOR_S + 1
    measure = meter.measure(3)
    assert (measure.latency_s, measure.rate_bps) == (None, None)
    assert (measure.messages, measure.unanswered, measure.age_s) == (3, 1, clock.now_s)


def test_a_noisy_link_is_told_within_a_fifth_most_of_the_time() -> None:
    noise, right = random.Random(1), 0
    for _ in range(200):
        meter = LinkMeter()
        for _ in range(LATEST):
            sent(meter, 64, 0.001, 2e7, more_s=noise.expovariate(1 / 5e-4))
            sent(meter, 32768, 0.001, 2e7, more_s=noise.expovariate(1 / 5e-4))
        rate_bps = meter.measure(3).rate_bps
        assert rate_bps is not None
        right += abs(rate_bps / 2e7 - 1) < 0.2
    assert right > 170


@pytest.mark.parametrize(("rate_bps", "snr"), [(20e6, 1.0), (40e6, 3.0), (200e6, 1023.0)])
def test_a_rate_is_the_snr_at_which_a_channel_carries_it(rate_bps: float, snr: float) -> None:
    assert 10 ** (spectral_snr_db(rate_bps, 20e6) / 10) == pytest.approx(snr)
