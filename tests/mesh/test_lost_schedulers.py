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
from tests.mesh.steering import decided_by, schedulers, trusted_schedulers, wait_until, warnings_of

JESA, ALONE = "jesa:0.5:2", "des:0.5:2"
HOURS_S = 3600.0
"""Whoever waited for this deadline would not end in a test's time."""


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
    wait_until(lambda: schedulers(client) == {0})
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
    wait_until(lambda: schedulers(client) == {0})
    assert decided_by(client, images) == JESA
    assert warnings_of(caplog) == []
    scheduler.kill()
    for _ in range(5):
        answer = client.predict(images, deadline_s=HOURS_S)
        assert answer.dispatched.decided_by == ALONE
        np.testing.assert_allclose(answer.probability_TC.sum(axis=1), 1, rtol=1e-5)
    (warning,) = warnings_of(caplog)
    assert "des:0.5:2 decides at this client instead of jesa:0.5:2" in warning

    again = add_scheduler(0)
    wait_until(lambda: schedulers(client) == {0})
    assert decided_by(client, images) == JESA
    assert "a scheduler decides by jesa:0.5:2 again" in caplog.text
    again.kill()
    assert decided_by(client, images) == ALONE
    wait_until(lambda: len(warnings_of(caplog)) == 2)


def test_without_any_scheduler_the_fallback_decides(
    client: MeshClient, images: NDArray[np.uint8], caplog: pytest.LogCaptureFixture
) -> None:
    assert [decided_by(client, images) for _ in range(3)] == [ALONE] * 3
    (warning,) = warnings_of(caplog)
    assert warning.startswith("no scheduler is alive; ")


def test_a_frozen_scheduler_costs_one_query_half_its_deadline_and_is_used_when_it_goes_on(
    client: MeshClient, add_scheduler: Callable[[int], NodeProcess], images: NDArray[np.uint8]
) -> None:
    scheduler = add_scheduler(0)
    wait_until(lambda: schedulers(client) == {0})
    scheduler.freeze()
    answer = client.predict(images, deadline_s=2.0)
    assert answer.dispatched.decided_by == ALONE
    assert trusted_schedulers(client) == set()
    answer = client.predict(images, deadline_s=HOURS_S)
    assert answer.dispatched.decided_by == ALONE
    wait_until(lambda: not schedulers(client))
    scheduler.thaw()
    wait_until(lambda: schedulers(client) == {0})
    assert decided_by(client, images) == JESA


def test_a_query_that_waits_for_a_scheduler_does_so_no_longer_once_it_is_dead(
    client: MeshClient, add_scheduler: Callable[[int], NodeProcess], images: NDArray[np.uint8]
) -> None:
    scheduler = add_scheduler(0)
    wait_until(lambda: schedulers(client) == {0})
    scheduler.freeze()
    asked = threading.Event()

    def gate(payload_T: NDArray[np.float32], snr_db_TE: NDArray[np.float64] | None) -> NDArray[np.float32]:
        asked.set()  # the scheduler is asked next
        return client.gate(payload_T, snr_db_TE)

    def kill() -> None:
        asked.wait(30)
        scheduler.kill()

    dies = threading.Thread(target=kill)
    dies.start()
    answer = client.predict(images, gate=gate, deadline_s=HOURS_S)
    dies.join()
    assert answer.dispatched.decided_by == ALONE


def test_a_frozen_scheduler_and_a_frozen_expert_together_leave_time_to_route_again(
    client: MeshClient,
    add_scheduler: Callable[[int], NodeProcess],
    remote_nodes: list[NodeProcess],
    images: NDArray[np.uint8],
) -> None:
    scheduler = add_scheduler(0)
    wait_until(lambda: schedulers(client) == {0})
    scheduler.freeze()
    remote_nodes[2].freeze()
    answer = client.predict(images, deadline_s=2.0)
    assert answer.dispatched.decided_by == ALONE
    assert answer.dispatched.requested_TE[:, 3].any()
    assert answer.dispatched.rerouted_T.any()
    assert answer.dispatched.arrived_TE.any(axis=1).all()


def test_the_next_scheduler_takes_over_and_the_lowest_node_takes_it_back(
    client: MeshClient, add_scheduler: Callable[[int], NodeProcess], images: NDArray[np.uint8]
) -> None:
    lowest, next_ = add_scheduler(0), add_scheduler(3)
    wait_until(lambda: schedulers(client) == {0, 3})
    assert decided_by(client, images) == JESA
    lowest.freeze()
    assert client.predict(images, deadline_s=2.0).dispatched.decided_by == ALONE
    assert min(trusted_schedulers(client)) == 3, "while the lowest is silent, the next is asked"
    lowest.kill()
    wait_until(lambda: schedulers(client) == {3})
    assert decided_by(client, images) == JESA
    next_.kill()
    wait_until(lambda: not schedulers(client))
    assert decided_by(client, images) == ALONE
