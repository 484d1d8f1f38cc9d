"""Schedulers that die, freeze, come back: queries go on, and what decided them is told."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from airmoe.mesh import MeshClient
from airmoe.scheduling import Jesa
from tests.mesh.ports import free_address
from tests.mesh.processes import NodeProcess
from tests.mesh.steering import decided_by, wait_until, warnings_of

JESA, ALONE = "jesa:0.5:2", "des:0.5:2"
TOLD_AT_ONCE_S = 0.5
"""Longer than any answer takes here, shorter than any wait for a deadline."""


@pytest.fixture
def client(folders: list[Path], remote_nodes: list[NodeProcess]) -> Iterator[MeshClient]:
    """Client 0, which has JESA for policy, in a mesh where nobody schedules yet."""
    with MeshClient(folders[0], [remote_nodes[0].address], policy=Jesa()) as client:
        client.wait_for_nodes(3)
        yield client


@pytest.fixture
def add_scheduler(
    folders: list[Path], remote_nodes: list[NodeProcess]
) -> Iterator[Callable[[int], NodeProcess]]:
    """Start a further process for a node, which schedules, too."""
    with ExitStack() as open_:

        def start(node: int) -> NodeProcess:
            process = NodeProcess(folders[node], free_address(), [remote_nodes[0].address], schedule=JESA)
            open_.callback(process.destroy)
            process.wait_until_serving()
            return process

        yield start


def test_a_query_without_time_does_not_make_the_scheduler_silent(
    client: MeshClient, add_scheduler: Callable[[int], NodeProcess], images: NDArray[np.uint8]
) -> None:
    add_scheduler(0)
    wait_until(lambda: client.schedulers.liveliness.alive == {0})
    client.predict(images, deadline_s=0.0)
    assert decided_by(client, images) == JESA


def test_a_killed_scheduler_is_done_without_and_logged_once(
    client: MeshClient,
    add_scheduler: Callable[[int], NodeProcess],
    images: NDArray[np.uint8],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "airmoe")
    scheduler = add_scheduler(0)
    wait_until(lambda: client.schedulers.liveliness.alive == {0})
    assert decided_by(client, images) == JESA
    assert warnings_of(caplog) == []
    scheduler.kill()
    for _ in range(5):
        answer = client.predict(images)
        assert answer.dispatched.decided_by == ALONE
        assert answer.elapsed_s < TOLD_AT_ONCE_S
        np.testing.assert_allclose(answer.probability_TC.sum(axis=1), 1, rtol=1e-5)
    (warning,) = warnings_of(caplog)
    assert "des:0.5:2 decides at this client instead of jesa:0.5:2" in warning

    again = add_scheduler(0)
    wait_until(lambda: client.schedulers.liveliness.alive == {0})
    assert decided_by(client, images) == JESA
    assert "a scheduler decides by jesa:0.5:2 again" in caplog.text
    again.kill()
    assert decided_by(client, images) == ALONE
    assert len(warnings_of(caplog)) == 2


def test_without_any_scheduler_the_fallback_decides(
    client: MeshClient, images: NDArray[np.uint8], caplog: pytest.LogCaptureFixture
) -> None:
    assert [decided_by(client, images) for _ in range(3)] == [ALONE] * 3
    (warning,) = warnings_of(caplog)
    assert warning.startswith("no scheduler is alive; ")


def test_a_frozen_scheduler_costs_one_query_half_its_deadline_and_the_next_nothing(
    client: MeshClient, add_scheduler: Callable[[int], NodeProcess], images: NDArray[np.uint8]
) -> None:
    scheduler = add_scheduler(0)
    wait_until(lambda: client.schedulers.liveliness.alive == {0})
    scheduler.freeze()
    answer = client.predict(images, deadline_s=1.0)
    assert answer.dispatched.decided_by == ALONE
    assert 0.4 < answer.elapsed_s < 1.0
    assert not answer.dispatched.degraded_T.any()
    answer = client.predict(images, deadline_s=1.0)
    assert answer.dispatched.decided_by == ALONE
    assert answer.elapsed_s < 0.4
    wait_until(lambda: not client.schedulers.liveliness.alive)
    scheduler.thaw()
    wait_until(lambda: client.schedulers.liveliness.alive == {0})
    assert decided_by(client, images) == JESA


def test_a_query_that_waits_for_a_scheduler_does_so_no_longer_once_it_is_dead(
    client: MeshClient, add_scheduler: Callable[[int], NodeProcess], images: NDArray[np.uint8]
) -> None:
    scheduler = add_scheduler(0)
    wait_until(lambda: client.schedulers.liveliness.alive == {0})
    scheduler.freeze()
    dies = threading.Timer(0.3, scheduler.kill)
    dies.start()
    answer = client.predict(images, deadline_s=6.0)
    dies.join()
    assert answer.dispatched.decided_by == ALONE
    assert 0.2 < answer.elapsed_s < 0.3 + TOLD_AT_ONCE_S


def test_a_frozen_scheduler_and_a_frozen_expert_together_leave_time_to_route_again(
    client: MeshClient,
    add_scheduler: Callable[[int], NodeProcess],
    remote_nodes: list[NodeProcess],
    images: NDArray[np.uint8],
) -> None:
    scheduler = add_scheduler(0)
    wait_until(lambda: client.schedulers.liveliness.alive == {0})
    scheduler.freeze()
    remote_nodes[2].freeze()
    answer = client.predict(images, deadline_s=1.2)
    assert answer.dispatched.requested_TE[:, 3].any()
    assert answer.dispatched.rerouted_T.any()
    assert answer.elapsed_s < 1.2
    assert not answer.dispatched.degraded_T.any()


def test_the_next_scheduler_takes_over_and_the_lowest_node_takes_it_back(
    client: MeshClient, add_scheduler: Callable[[int], NodeProcess], images: NDArray[np.uint8]
) -> None:
    lowest, next_ = add_scheduler(0), add_scheduler(3)
    wait_until(lambda: client.schedulers.liveliness.alive == {0, 3})
    assert decided_by(client, images) == JESA
    lowest.freeze()
    assert client.predict(images, deadline_s=1.0).dispatched.decided_by == ALONE
    answer = client.predict(images, deadline_s=1.0)
    assert answer.dispatched.decided_by == JESA, "while the lowest is silent, the next is asked"
    assert answer.elapsed_s < 0.4
    lowest.kill()
    wait_until(lambda: client.schedulers.liveliness.alive == {3})
    assert decided_by(client, images) == JESA
    next_.kill()
    wait_until(lambda: not client.schedulers.liveliness.alive)
    assert decided_by(client, images) == ALONE
