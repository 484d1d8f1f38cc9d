"""A node that is asked for more than it can do."""

from pathlib import Path

import pytest

from airmoe.data import ImageSet
from tests.system.faults.overload import BURDEN_S, greed, overload
from tests.system.faults.overload import full_queue as fill_queue


def test_what_waits_at_a_node_is_held_once(run_folder: Path) -> None:
    full_queue = fill_queue(run_folder, items=1024, times=0)
    assert full_queue.waiting_mb > 25
    assert full_queue.more_mb < 1.5 * full_queue.waiting_mb


def test_every_request_that_is_one_too_many_is_refused(run_folder: Path) -> None:
    assert len(fill_queue(run_folder, items=8, times=50).refused_s) == 50


@pytest.mark.long
def test_one_request_too_many_is_refused_within_10_ms(run_folder: Path) -> None:
    refused_s = sorted(fill_queue(run_folder, items=8, times=500).refused_s)
    assert refused_s[int(0.99 * len(refused_s))] < 0.01


@pytest.mark.long
@pytest.mark.parametrize("items", BURDEN_S)
def test_asked_for_three_times_what_it_can_do_a_node_does_four_fifths_of_it_in_time(
    run_folder: Path, items: int
) -> None:
    overloaded = overload(run_folder, items, phase_s=3.0)
    assert overloaded.sent_at_3 > 2.7, "the askers are too slow"
    assert overloaded.kept >= 0.8
    assert overloaded.more_mb <= 50


@pytest.mark.long
def test_a_greedy_asker_leaves_the_others_half_of_their_rate(run_folder: Path, digits: ImageSet) -> None:
    greedy = greed(run_folder, digits.test_images[:8], phase_s=3.0)
    assert greedy.least_kept >= 0.5
