"""Gates and policies that send items where a test wants them, and waiting for what comes in its own time."""

import time
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from airmoe.mesh import MeshClient
from airmoe.scheduling import All, Cost, Routing, Slot


def prefer(client: MeshClient, *scores: float) -> None:
    """Make the client's gate give every item these scores."""
    client.gate = lambda payload_T, snr_db_TE: np.tile(np.array(scores, np.float32), (len(payload_T), 1))


class Others:
    """Every reachable expert but the source's own: a policy that leaves the last resort to the mesh."""

    name, joint = "others", False

    def route(self, scores_TE: ArrayLike, cost: Cost, slot: Slot) -> Routing:
        return All().route(scores_TE, cost.where(~slot.at_home_TE), slot)


def counts(mask_TE: NDArray[np.bool_]) -> list[int]:
    """How many items each expert has."""
    return [int(count) for count in mask_TE.sum(axis=0)]


def wait_until(condition: Callable[[], bool], timeout_s: float = 8.0) -> None:
    """Wait for something that gives no event."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def decided_by(client: MeshClient, images: NDArray[np.uint8]) -> str:
    """Who decides a query."""
    return client.predict(images).dispatched.decided_by


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged about who decides instead of a scheduler."""
    return [record.getMessage() for record in caplog.records if "at this client" in record.getMessage()]
