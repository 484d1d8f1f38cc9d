"""A mesh in service for long: nodes come and go, batches are too large, memory stays."""

from pathlib import Path

import pytest

from airmoe.data import ImageSet
from tests.system.faults.large import large
from tests.system.faults.service import long_service
from tests.system.faults.soak import soak

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]


def test_while_nodes_are_killed_and_frozen_and_come_back_every_query_is_answered_honestly(
    ten_nodes: Path, digits: ImageSet
) -> None:
    account = long_service(ten_nodes, digits.test_images)
    assert account.queries == 20_000
    assert (account.unanswered, account.late) == (0, 0)
    assert account.lost > 1000, "the faults were felt"
    assert (account.lost_unmarked, account.whole_marked, account.false) == (0, 0, 0)
    assert account.marked_last == 0, "all nodes are back"


@pytest.mark.parametrize("images", [5_000, 10_000, 20_000, 40_000])
def test_a_large_batch_is_answered_or_refused_in_its_deadline_of_2_s(ten_nodes: Path, images: int) -> None:
    """What is far too much is refused at once; what might just be done is refused when it shows."""
    ended = large(ten_nodes, images)
    print(ended)
    assert ended.took_s < (2.2 if ended.answered or images < 40_000 else 0.5)


def test_memory_and_descriptors_stay(ten_nodes: Path, digits: ImageSet) -> None:
    found = soak(ten_nodes, digits.test_images, 60.0)
    assert found.client_mb < 1
    assert found.node_mb < 1
    assert found.descriptors == 0
