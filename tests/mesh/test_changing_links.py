"""Links that change from one query to the next: gate, policy and price follow."""

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from airmoe.errors import InvalidInputError
from airmoe.links import Links, LinkSnr, RecordedLinks
from airmoe.mesh import MeshClient
from airmoe.scheduling import (
    All,
    BestLink,
    Cheapest,
    Cost,
    Des,
    Jesa,
    Policy,
    Routing,
    Slot,
    TopK,
    allocate_subcarriers,
)
from tests.mesh.exported import EXPERTS, SERVER_NODE, ServerRun, links_at
from tests.mesh.processes import NodeProcess
from tests.mesh.steering import answer_to, counts

pytest.importorskip("torch")

PAYLOAD_BITS = 400 * 32 + 32
GOOD_DB, BAD_DB = 20.0, -10.0
ALL_GOOD = links_at(*[GOOD_DB] * EXPERTS)


@pytest.fixture(scope="module")
def client(server_run: ServerRun, expert_nodes: list[NodeProcess]) -> Iterator[MeshClient]:
    """A server that hears every expert well, and asks the best one."""
    with MeshClient(server_run.server, [expert_nodes[0].address], links=ALL_GOOD) as client:
        client.wait_for_nodes(EXPERTS)
        yield client


def with_one_bad(expert: int) -> list[float]:
    return [BAD_DB if other == expert else GOOD_DB for other in range(EXPERTS)]


@pytest.mark.parametrize("bad", range(EXPERTS))
def test_a_gate_that_sees_the_channel_routes_away_from_a_link_that_goes_bad_and_back(
    client: MeshClient, images: NDArray[np.uint8], bad: int
) -> None:
    good = counts(answer_to(client, images).dispatched.arrived_TE)
    assert good[bad] > 0, "it is asked while its link is good"
    avoided = counts(answer_to(client, images, links=links_at(*with_one_bad(bad))).dispatched.arrived_TE)
    assert avoided[bad] == 0
    assert sum(avoided) == len(images)
    assert counts(answer_to(client, images).dispatched.arrived_TE) == good


def test_the_gate_scores_as_in_one_process_under_any_links(
    client: MeshClient, server_run: ServerRun, images: NDArray[np.uint8]
) -> None:
    from airmoe.nn import LocalCarrier

    rng = np.random.default_rng(3)
    for snr_db_E in rng.uniform(-15, 35, (5, EXPERTS)):
        snr = LinkSnr(np.tile(snr_db_E, (len(images), 1)))
        expected = server_run.in_one_process(images, TopK(2), LocalCarrier(), snr)
        answer = answer_to(client, images, policy=TopK(2), links=links_at(*snr_db_E))
        np.testing.assert_allclose(answer.scores_TE, expected.scores_TE.numpy(), atol=1e-5, rtol=0)
        np.testing.assert_allclose(answer.probability_TC, expected.y_TC.numpy(), atol=1e-5, rtol=0)


def test_gate_and_policy_see_the_links_as_observed(client: MeshClient, images: NDArray[np.uint8]) -> None:
    truth, seen = links_at(*with_one_bad(0)), links_at(*with_one_bad(3))
    links = truth.with_observed(seen)
    answer = answer_to(client, images, links=links)
    np.testing.assert_allclose(answer.snr_db_TE, np.tile(with_one_bad(3), (len(images), 1)))
    assert counts(answer.dispatched.requested_TE)[3] == 0
    assert counts(answer.dispatched.requested_TE)[0] > 0
    answer = answer_to(client, images, policy=BestLink(1), links=links)
    assert counts(answer.dispatched.requested_TE) == [len(images), len(images), 0, 0], "and after an outage"


def test_what_is_sent_faster_than_an_ideal_link_carries_is_lost_paid_and_sent_to_another(
    server_run: ServerRun, expert_nodes: list[NodeProcess], images: NDArray[np.uint8]
) -> None:
    truth, seen = links_at(10.0, 20.0, 20.0, 20.0), links_at(30.0, 20.0, 10.0, 10.0)
    links, address = truth.with_observed(seen), expert_nodes[0].address
    with MeshClient(server_run.server, [address], links=links, policy=BestLink(1)) as other:
        other.wait_for_nodes(EXPERTS)
        for _ in range(2):
            done = answer_to(other, images).dispatched
            assert counts(done.requested_TE) == [len(images), len(images), 0, 0]
            assert counts(done.arrived_TE) == [0, len(images), 0, 0]
            assert done.degraded_T.all()
            per_bit_j_E = seen.energy_per_bit_j(allocate_subcarriers(seen))[SERVER_NODE, :EXPERTS]
            np.testing.assert_allclose(done.energy_j_T, PAYLOAD_BITS * per_bit_j_E[:2].sum(), rtol=1e-12)
        done = answer_to(other, images, links=seen).dispatched
        assert counts(done.arrived_TE)[0] == len(images), "the node was there all the time"


@pytest.mark.parametrize(
    "policy",
    [TopK(1), TopK(2), BestLink(2), Cheapest(1), All(), Des(0.6, 2), Jesa(0.6, 2)],
    ids=lambda policy: policy.name,
)
def test_outages_are_those_of_the_simulation_and_so_is_what_is_left(
    client: MeshClient, server_run: ServerRun, images: NDArray[np.uint8], policy: Policy
) -> None:
    from airmoe.nn import IdealRadioCarrier

    rng, outages = np.random.default_rng(11), 0
    for true_db_E in rng.uniform(0, 30, (6, EXPERTS)):
        seen_db_E = true_db_E + rng.normal(0, 3, EXPERTS)
        links = links_at(*true_db_E).with_observed(links_at(*seen_db_E))
        snr = LinkSnr(np.tile(seen_db_E, (len(images), 1)))
        expected = server_run.in_one_process(images, policy, IdealRadioCarrier(links), snr)
        done, simulated = answer_to(client, images, policy=policy, links=links), expected.dispatched
        np.testing.assert_array_equal(done.dispatched.requested_TE, simulated.requested_TE)
        np.testing.assert_array_equal(done.dispatched.arrived_TE, simulated.arrived_TE)
        np.testing.assert_array_equal(done.dispatched.degraded_T, simulated.degraded_T)
        np.testing.assert_allclose(done.dispatched.energy_j_T, simulated.energy_j_T, rtol=1e-9)
        np.testing.assert_allclose(done.probability_TC, expected.y_TC.numpy(), atol=1e-5, rtol=0)
        outages += int((simulated.requested_TE & ~simulated.arrived_TE).sum())
    assert outages


@pytest.mark.parametrize("best", range(EXPERTS))
def test_the_policy_follows(client: MeshClient, images: NDArray[np.uint8], best: int) -> None:
    links = links_at(*[GOOD_DB if expert == best else 0.0 for expert in range(EXPERTS)])
    for policy in (BestLink(1), Cheapest(1)):
        answer = answer_to(client, images, policy=policy, links=links)
        assert counts(answer.dispatched.arrived_TE)[best] == len(images)


def test_a_query_takes_a_source_of_links_as_the_client_does(
    client: MeshClient, images: NDArray[np.uint8]
) -> None:
    bests = [1, 3]
    source = Counted([links_at(*[GOOD_DB if e == best else 0.0 for e in range(EXPERTS)]) for best in bests])
    for number, best in enumerate(bests):
        answer = answer_to(client, images, policy=BestLink(1), links=source)
        assert counts(answer.dispatched.arrived_TE)[best] == len(images)
        assert source.asked == number + 1


def test_the_price_follows(client: MeshClient, images: NDArray[np.uint8]) -> None:
    for links in (ALL_GOOD, links_at(3.0, 7.0, 12.0, 30.0)):
        per_bit_j_E = links.energy_per_bit_j(allocate_subcarriers(links))[SERVER_NODE, :EXPERTS]
        energy_j_T = answer_to(client, images, policy=All(), links=links).dispatched.energy_j_T
        np.testing.assert_allclose(energy_j_T, PAYLOAD_BITS * per_bit_j_E.sum(), rtol=1e-12)


def test_a_policy_cannot_change_what_later_queries_see(client: MeshClient, images: NDArray[np.uint8]) -> None:
    class Writing:
        name, joint = "writing", False

        def route(self, scores_TE: ArrayLike, cost: Cost, slot: Slot) -> Routing:
            assert slot.bits_T is not None
            for array in (slot.source_T, slot.bits_T, slot.node_TE, cost.energy_j_TE):
                with pytest.raises(ValueError, match="read-only"):
                    array[...] = 0
            return All().route(scores_TE, cost, slot)

    before = answer_to(client, images, policy=All(), links=ALL_GOOD)
    answer_to(client, images, policy=Writing(), links=ALL_GOOD)
    after = answer_to(client, images, policy=All(), links=ALL_GOOD)
    np.testing.assert_array_equal(after.dispatched.energy_j_T, before.dispatched.energy_j_T)


def test_a_link_without_gain_is_not_used(client: MeshClient, images: NDArray[np.uint8]) -> None:
    links = links_at(-np.inf, GOOD_DB, GOOD_DB, GOOD_DB)
    answer = answer_to(client, images, policy=All(), links=links)
    assert counts(answer.dispatched.requested_TE) == [0, 64, 64, 64]
    assert np.isfinite(answer.dispatched.energy_j_T).all()


def test_a_gate_may_be_exchanged_and_is_told_payload_and_snr(
    client: MeshClient, images: NDArray[np.uint8]
) -> None:
    told: list[tuple[NDArray[np.float32], NDArray[np.float64] | None]] = []

    def gate(payload_T: NDArray[np.float32], snr_db_TE: NDArray[np.float64] | None) -> NDArray[np.float32]:
        told.append((payload_T, snr_db_TE))
        return np.full((len(payload_T), EXPERTS), 0.25, np.float32)

    answer_to(client, images, gate=gate)
    ((payload_T, snr_db_TE),) = told
    assert payload_T.shape == (64, 400)
    assert snr_db_TE is not None
    np.testing.assert_allclose(snr_db_TE, np.full((64, EXPERTS), GOOD_DB))


class Counted:
    """A source of links that counts how often it was asked."""

    def __init__(self, links: list[Links]) -> None:
        self.recorded, self.asked = RecordedLinks(links), 0

    def current(self) -> Links:
        self.asked += 1
        return self.recorded.current()


def test_a_source_of_links_is_asked_once_per_query_and_followed(
    server_run: ServerRun, expert_nodes: list[NodeProcess], images: NDArray[np.uint8]
) -> None:
    bests = [2, 0, 3]
    source = Counted([links_at(*[GOOD_DB if e == best else 0.0 for e in range(EXPERTS)]) for best in bests])
    with MeshClient(server_run.server, [expert_nodes[0].address], links=source, policy=BestLink(1)) as client:
        client.wait_for_nodes(EXPERTS)
        assert source.asked == 0, "no query, no slot"
        for best in [*bests, *bests]:
            assert counts(answer_to(client, images).dispatched.arrived_TE)[best] == len(images)
        assert source.asked == 6
        answer_to(client, images, links=ALL_GOOD)
        assert source.asked == 6, "the query brought its own"


def test_a_source_of_links_between_another_number_of_nodes_is_refused_at_the_query(
    server_run: ServerRun, expert_nodes: list[NodeProcess], images: NDArray[np.uint8]
) -> None:
    source = RecordedLinks([links_at(10.0, nodes=EXPERTS)])
    with (
        MeshClient(server_run.server, [expert_nodes[0].address], links=source) as client,
        pytest.raises(InvalidInputError, match=r"links.nodes is 4; expected 5, the nodes of this mesh"),
    ):
        answer_to(client, images)
