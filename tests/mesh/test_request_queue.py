"""The requests that wait at a node: urgent ones first, fair between askers, none that would be late."""

from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airmoe.mesh.request_queue import (
    CREDIT_BYTES,
    CREDITS,
    MAX_WAITING_BYTES,
    MOST_WAITING,
    OVERLOADED,
    RequestQueue,
    Waiting,
)

NEVER_S = 1e9
ITEM_S = 0.01
"""What one item takes to compute in these tests."""

Queue = RequestQueue[str]


def request(
    asker: str = "a", number: int = 0, *, ends_s: float = NEVER_S, items: int = 1, size: int = 100
) -> Waiting[str]:
    return Waiting(f"{asker}{number}", asker, number, items, size, ends_s)


def experienced(queue: Queue) -> Queue:
    """A queue that knows what requests take."""
    for size in range(12):
        queue.took(request(items=2**size), ITEM_S * 2**size, 0.0)
    return queue


def taken(queue: Queue, now_s: float = 0.0) -> list[str]:
    names = []
    while (waiting := queue.take(now_s)[0]) is not None:
        names.append(waiting.item)
    return names


def test_the_most_urgent_request_of_an_asker_is_next() -> None:
    queue = Queue()
    for number, ends_s in enumerate([3.0, 1.0, 2.0]):
        assert queue.add(request(number=number, ends_s=ends_s), 0.0) is None
    assert taken(queue) == ["a1", "a2", "a0"]


def test_an_empty_queue_gives_nothing() -> None:
    assert Queue().take(0.0) == (None, [])


def test_a_request_that_cannot_be_done_in_time_is_refused_at_once() -> None:
    queue = experienced(Queue())
    assert queue.add(request(ends_s=0.009), 0.0) == (
        "too late: it would take 0.010 s, and its asker waits for 0.009 s"
    )
    assert queue.add(request(ends_s=0.011), 0.0) is None


def test_what_waits_before_it_counts_and_what_is_less_urgent_does_not() -> None:
    queue = experienced(Queue())
    assert queue.add(request(number=0, ends_s=0.035, items=2), 0.0) is None
    assert queue.add(request(number=1, ends_s=99.0, items=1024), 0.0) is None
    assert queue.add(request(number=2, ends_s=0.036), 0.0) is None
    assert "it would take 0.040 s" in str(queue.add(request(number=3, ends_s=0.037), 0.0))


def test_with_others_waiting_an_asker_has_its_share_of_the_time() -> None:
    queue = experienced(Queue())
    assert queue.add(request("b", ends_s=1.0), 0.0) is None
    assert queue.add(request("a", 0, ends_s=0.019), 0.0) is None
    assert "it would take 0.030 s" in str(queue.add(request("a", 1, ends_s=0.029), 0.0)), "b has every other"


def test_what_would_be_late_when_its_turn_comes_is_dropped_and_not_computed() -> None:
    queue = experienced(Queue())
    assert queue.add(request(number=0, ends_s=0.05), 0.0) is None
    assert queue.add(request(number=1, ends_s=0.5), 0.0) is None
    waiting, dropped = queue.take(0.045)
    assert waiting is not None
    assert (waiting.item, [each.item for each in dropped]) == ("a1", ["a0"])


def test_an_asker_has_so_many_credits() -> None:
    queue = Queue()
    assert [queue.add(request(number=number), 0.0) for number in range(CREDITS)] == [None] * CREDITS
    assert queue.add(request(number=CREDITS), 0.0) == (
        f"overloaded: {CREDITS} requests of this asker are waiting"
    )
    assert queue.add(request("b"), 0.0) is None


def test_the_bytes_that_wait_are_bounded_and_counted_down() -> None:
    queue = Queue()
    assert queue.add(request(size=MAX_WAITING_BYTES - 10), 0.0) is None
    assert queue.add(request("b", size=11), 0.0) == "overloaded: too many bytes are waiting"
    assert queue.add(request("b", size=10), 0.0) is None
    assert len(taken(queue)) == 2
    assert queue.add(request(size=MAX_WAITING_BYTES), 0.0) is None


def test_the_requests_that_wait_are_bounded_whatever_names_their_askers_invent() -> None:
    queue = Queue()
    for number in range(MOST_WAITING):
        assert queue.add(request(f"invented{number}"), 0.0) is None
    assert queue.add(request("honest"), 0.0) == "overloaded: 1024 requests are waiting"
    queue.take(0.0)
    queue.withdraw("invented7", 0)
    assert [queue.add(request(f"honest{number}"), 0.0) for number in range(3)] == [
        None,
        None,
        "overloaded: 1024 requests are waiting",
    ]


def test_a_withdrawn_request_is_gone() -> None:
    queue = Queue()
    queue.add(request(number=0), 0.0)
    queue.add(request(number=1), 0.0)
    assert queue.withdraw("b", 0) is None, "another asker's"
    withdrawn = queue.withdraw("a", 0)
    assert withdrawn is not None
    assert (withdrawn.item, len(queue)) == ("a0", 1)
    assert queue.withdraw("a", 0) is None
    assert taken(queue) == ["a1"]


def served(asks: dict[str, int], rounds: int = 400) -> dict[str, int]:
    """How many requests of each asker are done, if each keeps so many waiting, of one item each."""
    queue, numbers, done = experienced(Queue()), count(), dict.fromkeys(asks, 0)
    for _ in range(rounds):
        for asker, waiting in asks.items():
            while sum(each.asker == asker for each in all_of(queue)) < waiting:
                assert queue.add(request(asker, next(numbers)), 0.0) is None
        waiting, _ = queue.take(0.0)
        assert waiting is not None
        done[waiting.asker] += 1
    return done


def all_of(queue: Queue) -> list[Waiting[str]]:
    return [each for own in queue._waiting.values() for each in own]


def test_a_greedy_asker_gets_no_more_than_the_others() -> None:
    done = served({"greedy": CREDITS, "a": 1, "b": 1})
    assert max(done.values()) - min(done.values()) <= 2


def test_who_had_nothing_to_do_saves_up_no_share() -> None:
    queue = experienced(Queue())
    for number in range(CREDITS):
        queue.add(request("a", number), 0.0)
    for _ in range(10):
        queue.take(0.0)
    for number in range(CREDITS):
        queue.add(request("b", number), 0.0)
    assert [name[0] for name in taken(queue)][:6].count("b") == 3


def test_many_askers_that_come_and_go_leave_nothing_behind() -> None:
    queue = experienced(Queue())
    for number in range(5000):
        queue.add(request(f"asker {number}"), 0.0)
        queue.take(0.0)
    assert len(queue._tag_s) <= 2
    assert not queue._waiting


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"), st.floats(0, 1), st.integers(0, 64), st.booleans(), st.floats(0, 0.1)
        ),
        max_size=60,
    )
)
def test_whatever_comes_every_request_is_served_dropped_refused_or_withdrawn_once(
    steps: list[tuple[str, float, int, bool, float]],
) -> None:
    queue, now_s, fate = experienced(Queue()), 0.0, list[str]()
    for number, (asker, patience_s, items, takes, pause_s) in enumerate(steps):
        now_s += pause_s
        if queue.add(request(asker, number, ends_s=now_s + patience_s, items=items), now_s):
            fate.append(f"{asker}{number}")
        if takes:
            waiting, dropped = queue.take(now_s)
            if waiting is not None:
                assert now_s <= waiting.ends_s
            fate += [each.item for each in [*dropped, *([waiting] if waiting else [])]]
    while len(queue):
        waiting, dropped = queue.take(now_s)
        fate += [each.item for each in [*dropped, *([waiting] if waiting else [])]]
    assert sorted(fate) == sorted(f"{asker}{number}" for number, (asker, *_) in enumerate(steps))
    assert queue.add(request("d", 0, size=MAX_WAITING_BYTES), now_s) is None, "no byte is left behind"


@pytest.mark.parametrize("items", [1, 64])
def test_without_experience_everything_is_taken_in(items: int) -> None:
    assert Queue().add(request(items=items, ends_s=0.0), 0.0) is None


def test_a_request_larger_than_any_before_is_taken_in_and_teaches_what_its_size_takes() -> None:
    queue = Queue()
    queue.took(request(items=1), ITEM_S, 0.0)
    assert queue.add(request(number=1, items=4096, ends_s=1.0), 0.0) is None, "a small one is all overhead"
    assert taken(queue) == ["a1"]
    queue.took(request(items=4096), 2.0, 0.0)
    assert "it would take 2.000 s" in str(queue.add(request(number=2, items=4096, ends_s=1.0), 0.0))


def test_a_request_smaller_than_any_before_is_taken_in() -> None:
    queue = Queue()
    queue.took(request(items=4096), 2.0, 0.0)
    assert queue.add(request(items=1, ends_s=0.02), 0.0) is None


def test_the_requests_of_one_asker_hold_so_many_bytes_or_are_one() -> None:
    queue = Queue()
    assert queue.add(request("a", 0, size=CREDIT_BYTES + 1), 0.0) is None, "alone it may be larger"
    assert "bytes of this asker" in str(queue.add(request("a", 1, size=1), 0.0))
    assert queue.add(request("b", 0, size=CREDIT_BYTES - 10), 0.0) is None, "another has bytes of its own"
    assert queue.add(request("b", 1, size=10), 0.0) is None
    assert str(queue.add(request("b", 2, size=1), 0.0)).startswith(OVERLOADED)


def test_what_waits_is_not_judged_by_a_guess_either() -> None:
    queue = Queue()
    queue.took(request(items=1), ITEM_S, 0.0)
    assert queue.add(request("a", 0, items=4096, ends_s=1.0), 0.0) is None
    assert queue.add(request("a", 1, items=1, ends_s=1.0), 0.0) is None, (
        "what the large one takes is not known"
    )
