"""What waits at a scheduler: when a slot closes, and how much it holds."""

from airmoe.mesh.slot_queue import MAX_SLOT_BYTES, MAX_SLOT_REQUESTS, SlotQueue, Waiting


def test_an_empty_slot_never_closes() -> None:
    assert SlotQueue[str](0.005).closes_in_s(7.0) is None


def test_a_slot_closes_its_time_after_its_first_request() -> None:
    queue = SlotQueue[str](0.25)
    queue.add(Waiting("first", 1, 10.0))
    queue.add(Waiting("second", 1, 10.125))
    assert queue.closes_in_s(10.125) == 0.125
    assert queue.closes_in_s(10.25) == 0.0
    assert [waiting.item for waiting in queue.take()] == ["first", "second"]


def test_what_waited_longer_than_a_slot_while_the_last_was_decided_does_not_wait_for_another() -> None:
    queue = SlotQueue[str](0.25)
    queue.add(Waiting("first", 1, 10.0))
    slot = queue.take()
    queue.add(Waiting("late", 1, 10.25))
    queue.decided(slot)
    assert queue.closes_in_s(10.875) == 0.0


def test_a_slot_of_no_time_closes_at_once() -> None:
    queue = SlotQueue[str](0.0)
    queue.add(Waiting("only", 1, 10.0))
    assert queue.closes_in_s(10.0) == 0.0


def test_a_slot_holds_so_many_requests() -> None:
    queue = SlotQueue[int](0.25)
    assert all(queue.add(Waiting(number, 1, 10.0)) for number in range(MAX_SLOT_REQUESTS))
    assert not queue.add(Waiting(0, 1, 10.0))
    queue.take()
    assert queue.add(Waiting(0, 1, 10.0)), "the next slot has room"


def test_bytes_are_bounded_together_with_the_slot_that_is_being_decided() -> None:
    queue = SlotQueue[str](0.25)
    assert queue.add(Waiting("half", MAX_SLOT_BYTES // 2, 10.0))
    slot = queue.take()
    assert queue.add(Waiting("the other half", MAX_SLOT_BYTES // 2, 10.0))
    assert not queue.add(Waiting("one byte", 1, 10.0))
    queue.decided(slot)
    assert queue.add(Waiting("one byte", 1, 10.0))
