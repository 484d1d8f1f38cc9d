"""Peers that freeze, hang or become slow hold up nobody."""

from pathlib import Path

import pytest

from airmoe.data import ImageSet
from tests.system.faults.slow_peers import hurried, slow_peers

pytestmark = pytest.mark.long


@pytest.mark.parametrize("policy", ["topk:1", "topk:2"])
def test_with_frozen_hung_and_slow_peers_no_query_takes_100_ms_and_throughput_stays(
    ten_nodes: Path, digits: ImageSet, policy: str
) -> None:
    for fault, slowed in slow_peers(ten_nodes, digits.test_images, 3.0, policy).items():
        assert slowed.slowest_s < 0.1, fault
        assert slowed.rate_ratio >= 0.8, fault


def test_a_deadline_of_5_ms_does_not_change_who_can_be_asked(ten_nodes: Path, digits: ImageSet) -> None:
    found = hurried(ten_nodes, digits.test_images)
    assert found.trusted_before == found.trusted_after == 10
    assert found.marked_after == 0
