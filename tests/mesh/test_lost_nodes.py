"""Nodes that die, freeze, come back: no query fails, none outlives its deadline."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from airmoe.mesh import MeshClient
from airmoe.mesh.networks import OnnxNetwork
from airmoe.scheduling import All, Slot, TopK
from tests.mesh.processes import NodeProcess
from tests.mesh.steering import Others, counts, prefer, wait_until

TOLD_AT_ONCE_S = 0.5
"""Longer than any answer takes here, shorter than any wait for a deadline."""


@pytest.fixture
def client(folders: list[Path], remote_nodes: list[NodeProcess]) -> Iterator[MeshClient]:
    """Client 0, which likes expert 3 best, then 2, then 1, and its own least."""
    with MeshClient(folders[0], [remote_nodes[0].address], policy=TopK(1)) as client:
        client.wait_for_nodes(3)
        prefer(client, 0.1, 0.2, 0.3, 0.4)
        yield client


def own_answer(client: MeshClient, folder: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    pixels = images.astype(np.float32) / np.float32(255)
    shared, expert = folder.parent.parent / "shared", folder / "expert.onnx"
    extractor = OnnxNetwork(shared / "extractor.onnx", {"input": (1, 32, 32)}, (400,))
    return OnnxNetwork(expert, {"input": (400,)}, (10,))(extractor(pixels))


def test_a_killed_node_is_routed_around(
    client: MeshClient, remote_nodes: list[NodeProcess], images: NDArray[np.uint8]
) -> None:
    assert counts(client.predict(images).dispatched.arrived_TE) == [0, 0, 0, 64]
    remote_nodes[2].kill()
    answer = client.predict(images)
    assert counts(answer.dispatched.arrived_TE) == [0, 0, 64, 0]
    assert not answer.dispatched.degraded_T.any()
    assert answer.elapsed_s < TOLD_AT_ONCE_S


def test_no_query_fails_while_nodes_are_killed(
    client: MeshClient, remote_nodes: list[NodeProcess], images: NDArray[np.uint8]
) -> None:
    client.policy = All()
    for node in remote_nodes:
        client.predict(images)
        node.kill()
        for _ in range(5):
            answer = client.predict(images)
            np.testing.assert_allclose(answer.probability_TC.sum(axis=1), 1, rtol=1e-5)
            assert answer.elapsed_s < 2.0


def test_the_death_of_the_seed_leaves_the_others_reachable(
    client: MeshClient, remote_nodes: list[NodeProcess], images: NDArray[np.uint8]
) -> None:
    remote_nodes[0].kill()
    wait_until(lambda: client.carrier.liveliness.alive == {2, 3})
    client.policy = All()
    answer = client.predict(images)
    assert counts(answer.dispatched.arrived_TE) == [64, 0, 64, 64]
    assert not answer.dispatched.rerouted_T.any()


def test_a_node_that_comes_back_is_used_again(
    client: MeshClient, remote_nodes: list[NodeProcess], folders: list[Path], images: NDArray[np.uint8]
) -> None:
    remote_nodes[2].kill()
    wait_until(lambda: client.carrier.liveliness.alive == {1, 2})
    again = NodeProcess(folders[3], remote_nodes[2].address, [remote_nodes[0].address])
    try:
        again.wait_until_serving()
        client.wait_for_nodes(3)
        assert counts(client.predict(images).dispatched.arrived_TE) == [0, 0, 0, 64]
    finally:
        again.destroy()


def test_a_seed_that_comes_back_is_found_again(
    client: MeshClient, remote_nodes: list[NodeProcess], folders: list[Path], images: NDArray[np.uint8]
) -> None:
    remote_nodes[0].kill()
    wait_until(lambda: client.carrier.liveliness.alive == {2, 3})
    again = NodeProcess(folders[1], remote_nodes[0].address)
    try:
        again.wait_until_serving()
        client.wait_for_nodes(3)
        client.policy = All()
        assert counts(client.predict(images).dispatched.arrived_TE) == [64, 64, 64, 64]
    finally:
        again.destroy()


def test_a_frozen_node_costs_one_query_half_its_deadline_and_the_next_nothing(
    client: MeshClient, remote_nodes: list[NodeProcess], images: NDArray[np.uint8]
) -> None:
    remote_nodes[2].freeze()
    answer = client.predict(images, deadline_s=1.0)
    assert counts(answer.dispatched.arrived_TE) == [0, 0, 64, 0]
    assert counts(answer.dispatched.requested_TE) == [0, 0, 64, 64]
    assert answer.dispatched.rerouted_T.all()
    assert not answer.dispatched.degraded_T.any()
    assert 0.4 < answer.elapsed_s < 1.0

    answer = client.predict(images, deadline_s=1.0)
    assert counts(answer.dispatched.requested_TE) == [0, 0, 64, 0]
    assert not answer.dispatched.rerouted_T.any()
    assert answer.elapsed_s < 0.4


def test_a_frozen_node_that_goes_on_is_used_again(
    client: MeshClient, remote_nodes: list[NodeProcess], images: NDArray[np.uint8]
) -> None:
    remote_nodes[2].freeze()
    wait_until(lambda: client.carrier.liveliness.alive == {1, 2})
    remote_nodes[2].thaw()
    client.wait_for_nodes(3)
    assert counts(client.predict(images).dispatched.arrived_TE) == [0, 0, 0, 64]


def test_a_node_that_stops_reading_does_not_hold_up_a_large_request(
    client: MeshClient, remote_nodes: list[NodeProcess]
) -> None:
    features_TF = np.zeros((10_000, 400), np.float32)  # 16 MB fill every buffer between the two
    item_T = np.arange(len(features_TF))
    slot = Slot(np.zeros_like(item_T), np.arange(4))
    remote_nodes[2].freeze()
    start = time.monotonic()
    delivery = client.carrier.carry(features_TF, item_T, np.full_like(item_T, 3), slot, None, 0.5)
    elapsed_s = time.monotonic() - start
    remote_nodes[2].kill()
    assert delivery.item_P.size == 0
    assert 0.5 <= elapsed_s < 1.0


def test_with_all_other_nodes_gone_the_own_expert_answers(
    client: MeshClient, remote_nodes: list[NodeProcess], folders: list[Path], images: NDArray[np.uint8]
) -> None:
    for node in remote_nodes:
        node.kill()
    answer = client.predict(images)
    assert counts(answer.dispatched.arrived_TE) == [64, 0, 0, 0]
    assert answer.dispatched.degraded_T.tolist() == (answer.scores_TE.argmax(axis=1) != 0).tolist()
    np.testing.assert_allclose(
        answer.probability_TC, own_answer(client, folders[0], images), atol=1e-6, rtol=0
    )


def test_the_own_expert_as_last_resort_is_marked_degraded(
    client: MeshClient, remote_nodes: list[NodeProcess], folders: list[Path], images: NDArray[np.uint8]
) -> None:
    client.policy = Others()
    assert not client.predict(images).dispatched.degraded_T.any()
    for node in remote_nodes:
        node.kill()
    answer = client.predict(images)
    assert answer.dispatched.degraded_T.all()
    np.testing.assert_allclose(
        answer.probability_TC, own_answer(client, folders[0], images), atol=1e-6, rtol=0
    )


def test_with_all_other_nodes_frozen_the_deadline_holds(
    client: MeshClient, remote_nodes: list[NodeProcess], images: NDArray[np.uint8]
) -> None:
    client.policy = Others()
    for node in remote_nodes:
        node.freeze()
    answer = client.predict(images, deadline_s=1.0)
    assert answer.dispatched.degraded_T.all()
    assert answer.elapsed_s < 1.0


def test_no_time_at_all_is_answered_by_the_own_expert(client: MeshClient, images: NDArray[np.uint8]) -> None:
    answer = client.predict(images, deadline_s=0)
    assert answer.dispatched.degraded_T.all()
    assert answer.sent_bytes == 0
