"""Links that change from one query to the next: gate, policy and price follow."""

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from airmoe.links import LinkSnr
from airmoe.mesh import MeshClient
from airmoe.scheduling import All, BestLink, Cheapest, TopK, allocate_subcarriers
from tests.mesh.exported import EXPERTS, SERVER_NODE, ServerRun, links_at
from tests.mesh.processes import NodeProcess
from tests.mesh.steering import counts

pytest.importorskip("torch")

PAYLOAD_BITS = 400 * 32 + 32
GOOD_DB, BAD_DB = 20.0, -10.0
ALL_GOOD = links_at(*[GOOD_DB] * EXPERTS)


@pytest.fixture(scope="module")
def waiting(server_run: ServerRun, expert_nodes: list[NodeProcess]) -> Iterator[MeshClient]:
    with MeshClient(server_run.server, [expert_nodes[0].address]) as client:
        client.wait_for_nodes(EXPERTS)
        yield client


@pytest.fixture
def client(waiting: MeshClient) -> MeshClient:
    """A server that hears every expert well, and asks the best one."""
    waiting.links, waiting.policy = ALL_GOOD, TopK(1)
    return waiting


def with_one_bad(expert: int) -> list[float]:
    return [BAD_DB if other == expert else GOOD_DB for other in range(EXPERTS)]


@pytest.mark.parametrize("bad", range(EXPERTS))
def test_a_gate_that_sees_the_channel_routes_away_from_a_link_that_goes_bad_and_back(
    client: MeshClient, images: NDArray[np.uint8], bad: int
) -> None:
    good = counts(client.predict(images).dispatched.arrived_TE)
    assert good[bad] > 0, "it is asked while its link is good"
    client.links = links_at(*with_one_bad(bad))
    avoided = counts(client.predict(images).dispatched.arrived_TE)
    assert avoided[bad] == 0
    assert sum(avoided) == len(images)
    client.links = ALL_GOOD
    assert counts(client.predict(images).dispatched.arrived_TE) == good


def test_the_gate_scores_as_in_one_process_under_any_links(
    client: MeshClient, server_run: ServerRun, images: NDArray[np.uint8]
) -> None:
    from airmoe.nn import LocalCarrier

    server_run.model.carrier, server_run.model.policy = LocalCarrier(), TopK(2)
    client.policy = TopK(2)
    rng = np.random.default_rng(3)
    for snr_db_E in rng.uniform(-15, 35, (5, EXPERTS)):
        client.links = links_at(*snr_db_E)
        expected = server_run.in_one_process(images, LinkSnr(np.tile(snr_db_E, (len(images), 1))))
        answer = client.predict(images)
        np.testing.assert_allclose(answer.scores_TE, expected.scores_TE.numpy(), atol=1e-5, rtol=0)
        np.testing.assert_allclose(answer.probability_TC, expected.y_TC.numpy(), atol=1e-5, rtol=0)


def test_gate_and_policy_see_the_links_as_observed(client: MeshClient, images: NDArray[np.uint8]) -> None:
    truth, seen = links_at(*with_one_bad(0)), links_at(*with_one_bad(3))
    client.links = truth.with_observed(seen)
    answer = client.predict(images)
    np.testing.assert_allclose(answer.snr_db_TE, np.tile(with_one_bad(3), (len(images), 1)))
    assert counts(answer.dispatched.arrived_TE)[3] == 0
    assert counts(answer.dispatched.arrived_TE)[0] > 0
    client.policy = BestLink(1)
    assert counts(client.predict(images).dispatched.arrived_TE)[0] == len(images)


@pytest.mark.parametrize("best", range(EXPERTS))
def test_the_policy_follows(client: MeshClient, images: NDArray[np.uint8], best: int) -> None:
    client.links = links_at(*[GOOD_DB if expert == best else 0.0 for expert in range(EXPERTS)])
    for policy in (BestLink(1), Cheapest(1)):
        client.policy = policy
        assert counts(client.predict(images).dispatched.arrived_TE)[best] == len(images)


def test_the_price_follows(client: MeshClient, images: NDArray[np.uint8]) -> None:
    client.policy = All()
    for links in (ALL_GOOD, links_at(3.0, 7.0, 12.0, 30.0)):
        client.links = links
        per_bit_j_E = links.energy_per_bit_j(allocate_subcarriers(links))[SERVER_NODE, :EXPERTS]
        energy_j_T = client.predict(images).dispatched.energy_j_T
        np.testing.assert_allclose(energy_j_T, PAYLOAD_BITS * per_bit_j_E.sum(), rtol=1e-12)


def test_a_link_without_gain_is_not_used(client: MeshClient, images: NDArray[np.uint8]) -> None:
    client.links, client.policy = links_at(-np.inf, GOOD_DB, GOOD_DB, GOOD_DB), All()
    answer = client.predict(images)
    assert counts(answer.dispatched.requested_TE) == [0, 64, 64, 64]
    assert np.isfinite(answer.dispatched.energy_j_T).all()


def test_a_gate_may_be_exchanged_and_is_told_payload_and_snr(
    client: MeshClient, images: NDArray[np.uint8]
) -> None:
    told: list[tuple[NDArray[np.float32], NDArray[np.float64] | None]] = []
    before = client.gate

    def gate(payload_T: NDArray[np.float32], snr_db_TE: NDArray[np.float64] | None) -> NDArray[np.float32]:
        told.append((payload_T, snr_db_TE))
        return np.full((len(payload_T), EXPERTS), 0.25, np.float32)

    client.gate = gate
    try:
        client.predict(images)
    finally:
        client.gate = before
    ((payload_T, snr_db_TE),) = told
    assert payload_T.shape == (64, 400)
    assert snr_db_TE is not None
    np.testing.assert_allclose(snr_db_TE, np.full((64, EXPERTS), GOOD_DB))
