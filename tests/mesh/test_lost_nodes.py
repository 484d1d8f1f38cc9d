"""Nodes that die, freeze, come back: no query fails, none waits for the dead."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from airmoe.dispatch import Transfer
from airmoe.mesh import Answer, MeshClient, simulated_links
from airmoe.mesh.carrier import MeshCarrier
from airmoe.mesh.networks import OnnxNetwork
from airmoe.mesh.peers import HEDGE_S
from airmoe.mesh.requests import Traffic
from airmoe.scheduling import All, Slot, TopK
from tests.mesh.processes import NodeProcess
from tests.mesh.steering import LONG_S, Others, alive, counts, prefer, trusted, wait_until
from tests.threads import started_since_now

HOURS_S = 3600.0
"""Whoever waited for this deadline would not end in a test's time."""

LIKES = prefer(0.1, 0.2, 0.3, 0.4)
"""Expert 3 best, then 2, then 1, and the own one least."""


@pytest.fixture
def client(folders: list[Path], remote_nodes: list[NodeProcess]) -> Iterator[MeshClient]:
    """Client 0."""
    with MeshClient(folders[0], [remote_nodes[0].address], policy=TopK(1), hedge_s=HEDGE_S) as client:
        client.wait_for_nodes(3)
        yield client


def liked(client: MeshClient, images: NDArray[np.uint8]) -> Answer:
    return client.predict(images, gate=LIKES, deadline_s=HOURS_S)


def own_answer(folder: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    pixels = images.astype(np.float32) / np.float32(255)
    extractor = OnnxNetwork(folder / "extractor.onnx", {"input": (1, 32, 32)}, (400,))
    return OnnxNetwork(folder / "expert-0.onnx", {"input": (400,)}, (10,))(extractor(pixels))


def test_a_killed_node_is_routed_around(
    client: MeshClient, remote_nodes: list[NodeProcess], images: NDArray[np.uint8]
) -> None:
    assert counts(liked(client, images).dispatched.arrived_TE) == [
        0,
        0,
        0,
        64,
    ]
    remote_nodes[2].kill()
    answer = liked(client, images)
    assert counts(answer.dispatched.arrived_TE) == [0, 0, 64, 0]
    assert not answer.dispatched.rerouted_T.any() or answer.dispatched.requested_TE[:, 3].all()
    assert answer.degraded_T.all(), "the gate wanted expert 3 for every image"
    np.testing.assert_array_equal(answer.reached_T, 0.0)


def test_no_query_fails_while_nodes_are_killed(
    client: MeshClient, remote_nodes: list[NodeProcess], images: NDArray[np.uint8]
) -> None:
    for node in remote_nodes:
        client.predict(images, policy=All(), deadline_s=HOURS_S)
        node.kill()
        for _ in range(5):
            answer = client.predict(images, policy=All(), deadline_s=HOURS_S)
            np.testing.assert_allclose(answer.probability_TC.sum(axis=1), 1, rtol=1e-5)


def test_the_death_of_the_seed_leaves_the_others_reachable(
    client: MeshClient, remote_nodes: list[NodeProcess], images: NDArray[np.uint8]
) -> None:
    remote_nodes[0].kill()
    wait_until(lambda: alive(client) == {2, 3})
    answer = client.predict(images, policy=All(), deadline_s=HOURS_S)
    assert counts(answer.dispatched.arrived_TE) == [64, 0, 64, 64]
    assert not answer.dispatched.rerouted_T.any()


def test_a_node_that_comes_back_is_used_again(
    client: MeshClient, remote_nodes: list[NodeProcess], folders: list[Path], images: NDArray[np.uint8]
) -> None:
    remote_nodes[2].kill()
    wait_until(lambda: alive(client) == {1, 2})
    again = NodeProcess(folders[3], remote_nodes[2].address, [remote_nodes[0].address])
    try:
        again.wait_until_serving()
        client.wait_for_nodes(3)
        assert counts(liked(client, images).dispatched.arrived_TE) == [
            0,
            0,
            0,
            64,
        ]
    finally:
        again.destroy()


def test_a_seed_that_comes_back_is_found_again(
    client: MeshClient, remote_nodes: list[NodeProcess], folders: list[Path], images: NDArray[np.uint8]
) -> None:
    remote_nodes[0].kill()
    wait_until(lambda: alive(client) == {2, 3})
    again = NodeProcess(folders[1], remote_nodes[0].address)
    try:
        again.wait_until_serving()
        client.wait_for_nodes(3)
        answer = client.predict(images, policy=All(), deadline_s=HOURS_S)
        assert counts(answer.dispatched.arrived_TE) == [64, 64, 64, 64]
    finally:
        again.destroy()


def test_a_frozen_node_costs_one_query_an_attempt_and_the_next_nothing(
    client: MeshClient, remote_nodes: list[NodeProcess], images: NDArray[np.uint8]
) -> None:
    remote_nodes[2].freeze()
    answer = client.predict(images, gate=LIKES, deadline_s=3.0)
    assert counts(answer.dispatched.requested_TE)[3] == 64
    assert counts(answer.dispatched.arrived_TE)[3] == 0
    assert answer.dispatched.arrived_TE.any(axis=1).all()
    assert 3 not in trusted(client)
    answer = client.predict(images, gate=LIKES, deadline_s=0.4)
    assert counts(answer.dispatched.requested_TE)[3] == 0
    assert answer.degraded_T.all()


def test_a_frozen_node_that_goes_on_is_used_again(
    client: MeshClient, remote_nodes: list[NodeProcess], images: NDArray[np.uint8]
) -> None:
    remote_nodes[2].freeze()
    wait_until(lambda: alive(client) == {1, 2})
    remote_nodes[2].thaw()
    client.wait_for_nodes(3)
    assert counts(liked(client, images).dispatched.arrived_TE) == [
        0,
        0,
        0,
        64,
    ]


def test_a_node_that_stops_reading_does_not_hold_up_a_large_request(
    client: MeshClient, remote_nodes: list[NodeProcess]
) -> None:
    features_TF = np.zeros((10_000, 400), np.float32)  # 16 MB fill every buffer between the two
    item_T = np.arange(len(features_TF))
    three_T = np.full_like(item_T, 3)
    carrier = MeshCarrier(client.layer, simulated_links(client.manifest.radio, 4), Traffic())
    slot = Slot(np.zeros_like(item_T), client.layer.placement)
    remote_nodes[2].freeze()
    ended = threading.Event()

    def carry() -> None:
        delivery = carrier.carry(Transfer(features_TF, item_T, three_T, three_T, slot, None, 0.1))
        if not delivery.item_P.size:
            ended.set()

    requests = started_since_now("airmoe request")
    asking = threading.Thread(target=carry)
    asking.start()
    try:
        assert ended.wait(30), "the frozen node held it up"
        assert remote_nodes[2].is_frozen
    finally:
        remote_nodes[2].kill()
        asking.join()
        wait_until(lambda: requests() == 0, LONG_S)


def test_with_all_other_nodes_gone_the_own_expert_answers(
    client: MeshClient, remote_nodes: list[NodeProcess], folders: list[Path], images: NDArray[np.uint8]
) -> None:
    for node in remote_nodes:
        node.kill()
    answer = liked(client, images)
    assert counts(answer.dispatched.arrived_TE) == [64, 0, 0, 0]
    assert answer.degraded_T.tolist() == (answer.scores_TE.argmax(axis=1) != 0).tolist()
    np.testing.assert_allclose(answer.probability_TC, own_answer(folders[0], images), atol=1e-6, rtol=0)


def test_the_own_expert_as_last_resort_is_marked_degraded(
    client: MeshClient, remote_nodes: list[NodeProcess], folders: list[Path], images: NDArray[np.uint8]
) -> None:
    assert not client.predict(images, policy=Others(), deadline_s=HOURS_S).degraded_T.any()
    for node in remote_nodes:
        node.kill()
    answer = client.predict(images, policy=Others(), deadline_s=HOURS_S)
    assert answer.degraded_T.all()
    np.testing.assert_allclose(answer.output_T, own_answer(folders[0], images), atol=1e-6, rtol=0)


def test_with_all_other_nodes_frozen_the_own_expert_answers_after_the_deadline(
    client: MeshClient, remote_nodes: list[NodeProcess], folders: list[Path], images: NDArray[np.uint8]
) -> None:
    for node in remote_nodes:
        node.freeze()
    answer = client.predict(images, policy=Others(), deadline_s=2.0)
    assert answer.degraded_T.all()
    np.testing.assert_allclose(answer.output_T, own_answer(folders[0], images), atol=1e-6, rtol=0)


def test_no_time_at_all_is_answered_by_the_own_expert(client: MeshClient, images: NDArray[np.uint8]) -> None:
    answer = client.predict(images, gate=LIKES, deadline_s=0)
    assert answer.degraded_T.all()
    assert answer.sent_bytes == 0
