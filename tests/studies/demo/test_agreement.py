"""The mesh and one process may differ by rounding, and by no more."""

import math
from typing import Any

import numpy as np
import pytest

from airmoe.errors import MeshError
from airmoe.studies.demo.agreement import SAME_ANSWERS, batches_in_turn, refused_if_large


@pytest.mark.parametrize("difference", [0.0, SAME_ANSWERS])
def test_a_difference_of_rounding_is_told(difference: float) -> None:
    assert refused_if_large(difference) == difference


@pytest.mark.parametrize("difference", [2 * SAME_ANSWERS, math.inf, math.nan])
def test_a_larger_difference_ends_the_demonstration(difference: float) -> None:
    with pytest.raises(MeshError, match=f"differ by {difference}; expected at most 1e-05"):
        refused_if_large(difference)


def test_every_image_is_asked_once_and_the_clients_take_turns() -> None:
    images_TCHW = np.arange(100, dtype=np.uint8).reshape(100, 1, 1, 1)
    clients: Any = ["one", "other"]
    turns = list(batches_in_turn(clients, images_TCHW))
    assert [str(client) for client, _, _ in turns] == ["one", "other", "one"]
    assert [(first, len(part)) for _, first, part in turns] == [(0, 45), (45, 45), (90, 10)]
    assert np.concatenate([part for _, _, part in turns]).tolist() == images_TCHW.tolist()
