"""What is learnt of each peer from requests alone, on a clock that the test sets."""

import pytest

from airmoe.dispatch import ManualClock
from airmoe.errors import InvalidInputError
from airmoe.mesh.durations import REMEMBERED_S
from airmoe.mesh.peers import (
    BUSY_S,
    EXTRA_AT_ONCE,
    FIRST_TIMES,
    FIRST_TRIAL_S,
    HEDGE_S,
    LAST_TRIAL_S,
    Peers,
)

PEER = 3
QUICK_S, SLOW_S = 0.002, 0.3


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def peers(clock: ManualClock) -> Peers[int]:
    return Peers(clock=clock)


def ask(peers: Peers[int], clock: ManualClock, took_s: float, items: int = 1, times: int = 1) -> None:
    """Requests that are answered after so long."""
    for number in range(times):
        peers.asked(PEER, number, items)
        clock.advance(took_s)
        peers.answered(PEER, number, items, took_s)


def test_a_peer_that_nothing_is_known_of_gets_half_a_second(peers: Peers[int]) -> None:
    assert peers.patience_s(PEER, 1) == FIRST_TIMES * HEDGE_S == 0.5


def test_a_quick_peer_gets_20_ms(peers: Peers[int], clock: ManualClock) -> None:
    ask(peers, clock, QUICK_S, times=20)
    assert peers.patience_s(PEER, 1) == HEDGE_S


def test_a_peer_gets_three_times_what_it_usually_takes(peers: Peers[int], clock: ManualClock) -> None:
    ask(peers, clock, 0.05, times=20)
    assert peers.patience_s(PEER, 1) == pytest.approx(0.15)


def test_one_slow_answer_in_twenty_does_not_count(peers: Peers[int], clock: ManualClock) -> None:
    ask(peers, clock, QUICK_S, times=31)
    ask(peers, clock, 0.03)
    assert peers.patience_s(PEER, 1) == HEDGE_S


def test_what_is_usual_goes_by_the_size_of_a_request_and_grows_at_most_with_it(
    peers: Peers[int], clock: ManualClock
) -> None:
    ask(peers, clock, 0.05, items=1, times=20)
    ask(peers, clock, 0.2, items=64, times=20)
    assert peers.patience_s(PEER, 1) == pytest.approx(0.15)
    assert peers.patience_s(PEER, 64) == pytest.approx(0.6)
    assert peers.patience_s(PEER, 3) == pytest.approx(0.3), "twice the size: twice the time"
    assert peers.patience_s(PEER, 512) == pytest.approx(4.8)


def test_what_is_older_than_a_minute_is_forgotten(peers: Peers[int], clock: ManualClock) -> None:
    ask(peers, clock, QUICK_S, times=20)
    clock.advance(REMEMBERED_S + 1)
    assert peers.patience_s(PEER, 1) == FIRST_TIMES * HEDGE_S


def test_a_peer_is_suspected_when_a_request_is_open_for_too_long(
    peers: Peers[int], clock: ManualClock
) -> None:
    ask(peers, clock, QUICK_S, times=20)
    peers.asked(PEER, 100, 1)
    clock.advance(HEDGE_S)
    assert PEER in peers.askable([PEER])
    clock.advance(0.001)
    assert PEER not in peers.askable([PEER])
    assert 4 in peers.askable([4]), "another is not"


def test_who_gives_up_early_or_is_refused_suspects_nobody(peers: Peers[int], clock: ManualClock) -> None:
    ask(peers, clock, QUICK_S, times=20)
    peers.asked(PEER, 100, 1)
    peers.withdrawn(PEER, 100)
    peers.asked(PEER, 101, 1)
    peers.refused(PEER, 101, is_busy=False)
    clock.advance(SLOW_S)
    assert peers.trusts(PEER)


def test_who_has_too_little_time_leaves_the_peer_to_others(peers: Peers[int]) -> None:
    peers.asked(PEER, 100, 1)
    peers.refused(PEER, 100, is_busy=False)
    assert PEER in peers.askable([PEER])


def test_who_is_overloaded_is_left_alone_for_20_ms(peers: Peers[int], clock: ManualClock) -> None:
    peers.asked(PEER, 100, 1)
    peers.refused(PEER, 100, is_busy=True)
    assert PEER not in peers.askable([PEER])
    clock.advance(BUSY_S)
    assert PEER in peers.askable([PEER])


@pytest.mark.parametrize("how", ["no answer at all", "a bad answer"])
def test_a_peer_that_fails_is_suspected_at_once(peers: Peers[int], how: str) -> None:
    peers.asked(PEER, 100, 1)
    if how == "a bad answer":
        peers.failed(PEER)
    else:
        peers.ended(PEER, 100)
    assert PEER not in peers.askable([PEER])


def test_a_suspected_peer_gets_trials_that_nobody_waits_for_ever_more_rarely(
    peers: Peers[int], clock: ManualClock
) -> None:
    peers.failed(PEER)
    pauses_s = []
    for number in range(5):
        begin_s = clock.now_s
        while PEER not in peers.askable([PEER]):
            clock.advance(0.01)
        pauses_s.append(clock.now_s - begin_s)
        assert peers.asked(PEER, number, 1) == 0
    assert pauses_s == pytest.approx([FIRST_TRIAL_S, 2 * FIRST_TRIAL_S, *[LAST_TRIAL_S] * 3], abs=0.011)


@pytest.mark.parametrize(("took_s", "trusted"), [(QUICK_S, True), (2 * HEDGE_S, True), (SLOW_S, False)])
def test_an_answer_about_as_quick_as_usual_lets_a_peer_in_again(
    peers: Peers[int], clock: ManualClock, took_s: float, trusted: bool
) -> None:
    ask(peers, clock, QUICK_S, times=20)
    peers.failed(PEER)
    clock.advance(FIRST_TRIAL_S)
    ask(peers, clock, took_s)
    assert peers.trusts(PEER) == trusted
    assert peers.patience_s(PEER, 1) <= 3 * 2 * HEDGE_S, "a slow answer does not become the usual one"


def test_a_peer_that_was_slow_from_the_first_answer_on_is_slow_and_not_suspected(
    peers: Peers[int], clock: ManualClock
) -> None:
    ask(peers, clock, SLOW_S, times=3)
    assert peers.trusts(PEER)
    assert peers.patience_s(PEER, 1) == pytest.approx(3 * SLOW_S)


def test_a_peer_that_comes_anew_is_trusted(peers: Peers[int]) -> None:
    peers.failed(PEER)
    peers.back(PEER)
    assert peers.trusts(PEER)


def test_extra_requests_are_few_while_nobody_is_suspected(peers: Peers[int], clock: ManualClock) -> None:
    ask(peers, clock, QUICK_S, times=20)
    peers_that_are_late = range(100, 100 + int(EXTRA_AT_ONCE) + 5)
    allowed = [peers.may_ask_beside(peer) for peer in peers_that_are_late]
    assert allowed == [True] * int(EXTRA_AT_ONCE) + [False] * 5
    ask(peers, clock, QUICK_S, times=20)
    assert [peers.may_ask_beside(200), peers.may_ask_beside(201)] == [True, False], "one for 20 requests"


def test_beside_a_suspected_peer_another_may_always_be_asked(peers: Peers[int]) -> None:
    peers.failed(PEER)
    assert all(peers.may_ask_beside(PEER) for _ in range(100))


@pytest.mark.parametrize("hedge_s", [0.0, -1.0, float("nan"), float("inf"), 3601.0])
def test_a_wait_out_of_range_is_refused(hedge_s: float) -> None:
    with pytest.raises(InvalidInputError, match=r"hedge_s is .*; expected"):
        Peers(hedge_s)


def test_a_peer_that_nothing_is_known_of_gets_what_the_slowest_of_the_others_gets(
    peers: Peers[int], clock: ManualClock
) -> None:
    ask(peers, clock, QUICK_S, times=5)
    assert peers.patience_s(PEER + 1, 1) == pytest.approx(3 * HEDGE_S)
    for number in range(5):
        peers.asked(PEER + 2, number, 1)
        peers.answered(PEER + 2, number, 1, 0.05)
    assert peers.patience_s(PEER + 1, 1) == pytest.approx(0.15)
