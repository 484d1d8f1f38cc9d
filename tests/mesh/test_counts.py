"""What a node counts, by a clock of the test."""

import threading

from airmoe.mesh.counts import MOST_ASKERS, OTHER_ASKERS, Counts


def test_requests_and_items_are_counted_for_each_asker() -> None:
    counts = Counts()
    counts.answered("node-1", 5)
    counts.answered("node-2", 0)
    counts.answered("node-1", 7)
    told = counts.now()
    assert told.answered == {"node-1": 2, "node-2": 1}
    assert told.items == 12


def test_invented_names_share_one_count_beyond_the_first() -> None:
    counts = Counts()
    for number in range(MOST_ASKERS + 10):
        counts.answered(f"name-{number}", 1)
    counts.answered("name-3", 1)
    told = counts.now().answered
    assert len(told) == MOST_ASKERS + 1
    assert (told["name-3"], told[OTHER_ASKERS]) == (2, 10)


def test_a_name_is_cut_and_has_no_line_break() -> None:
    counts = Counts()
    counts.answered("a\nb" + "c" * 1000, 1)
    (name,) = counts.now().answered
    assert name.startswith("a\\nbccc")
    assert len(name) < 60


def test_every_reason_of_a_refusal_is_there_from_the_beginning() -> None:
    counts = Counts()
    assert set(counts.now().refused.values()) == {0}
    counts.refused("late")
    counts.refused("late")
    assert {why: count for why, count in counts.now().refused.items() if count} == {"late": 2}


def test_the_request_at_hand_counts_as_it_goes_on() -> None:
    now_s = 100.0
    counts = Counts(lambda: now_s)
    assert (counts.now().busy_s, counts.now().at_hand_s) == (0, 0)
    counts.begun()
    now_s = 103.0
    assert (counts.now().busy_s, counts.now().at_hand_s) == (3, 3)
    counts.ended()
    now_s = 110.0
    assert (counts.now().busy_s, counts.now().at_hand_s) == (3, 0)
    counts.begun()
    now_s = 111.0
    assert (counts.now().busy_s, counts.now().at_hand_s) == (4, 1)


def test_what_was_told_stays_as_it_was() -> None:
    counts = Counts()
    before = counts.now()
    counts.answered("node-1", 1)
    counts.refused("wrong")
    assert before.answered == {}
    assert before.refused["wrong"] == 0


def test_no_request_is_lost_between_threads() -> None:
    counts = Counts()

    def count() -> None:
        for _ in range(5000):
            counts.answered("node-1", 2)
            counts.refused("late")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = counts.now()
    assert (told.answered["node-1"], told.items, told.refused["late"]) == (20_000, 40_000, 20_000)
