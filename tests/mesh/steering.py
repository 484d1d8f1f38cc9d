"""Gates and policies that send items where a test wants them, and waiting for what comes in its own time."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from airmoe.mesh import Answer, MeshClient
from airmoe.mesh.client import GateFunction
from airmoe.scheduling import All, Cost, Routing, Slot

LONG_S = 60.0
"""A deadline that a busy machine keeps, too; nobody waits for it unless something is wrong."""


def prefer(*scores: float) -> GateFunction:
    """A gate that gives every item these scores."""
    return lambda payload_T, snr_db_TE: np.tile(np.array(scores, np.float32), (len(payload_T), 1))


def answer_to(client: MeshClient, images: NDArray[np.uint8] | NDArray[np.float32], **options: Any) -> Answer:
    """What a client is answered, however busy the machine is."""
    return client.predict(images, **options, deadline_s=LONG_S)


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


def alive(client: MeshClient) -> set[int]:
    """The nodes that the client knows to serve."""
    return set(client.layer.nodes_alive())


def trusted(client: MeshClient) -> set[int]:
    """Those of them that are not suspected."""
    return {node for node in alive(client) if client.layer.peers.trusts(node)}


def trusted_schedulers(client: MeshClient) -> set[int]:
    """The nodes that schedule and are not suspected."""
    return {node for node in schedulers(client) if client.schedulers.peers.trusts(node)}


def schedulers(client: MeshClient) -> set[int]:
    """The nodes that the client knows to schedule."""
    return set(client.schedulers.liveliness.alive)


def decided_by(client: MeshClient, images: NDArray[np.uint8]) -> str:
    """Who decides a query."""
    return answer_to(client, images).dispatched.decided_by


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged about who decides instead of a scheduler."""
    return [record.getMessage() for record in caplog.records if "at this client" in record.getMessage()]
