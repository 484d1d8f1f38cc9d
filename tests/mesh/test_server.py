"""A server without an expert and nodes with one each answer what the same mixture does in one process."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from airmoe.errors import InvalidInputError, NoExpertReachedError, RunFolderError
from airmoe.links import Links, LinkSnr, Ofdma
from airmoe.manifest import RadioSpec, read_manifest, write_manifest
from airmoe.mesh import MeshClient, Node, simulated_links
from airmoe.scheduling import All, Cost, Jesa, Local, Routing, Slot, TopK, make_policy
from tests.mesh.exported import EXPERTS, SERVER_NODE, ServerRun, links_at
from tests.mesh.ports import free_address
from tests.mesh.processes import NodeProcess, node_processes
from tests.mesh.steering import answer_to, counts, prefer, warnings_of

torch = pytest.importorskip("torch")

NO_NOISE_DB = 300.0
"""Over such a link float32 shows no noise."""


@pytest.fixture(scope="module")
def client(server_run: ServerRun, expert_nodes: list[NodeProcess]) -> Iterator[MeshClient]:
    with MeshClient(server_run.server, [expert_nodes[0].address]) as client:
        client.wait_for_nodes(EXPERTS)
        yield client


@pytest.fixture(scope="module")
def links(client: MeshClient) -> Links:
    """The links of the run, between its experts and the server."""
    return simulated_links(client.manifest.radio, EXPERTS + 1)


@pytest.mark.parametrize("policy", ["topk:1", "topk:2", "des:0.5:2", "all", "best-link:2", "jesa:0.5:2"])
def test_the_mesh_answers_as_the_mixture_does_over_an_ideal_radio(
    client: MeshClient, server_run: ServerRun, links: Links, images: NDArray[np.uint8], policy: str
) -> None:
    from airmoe.nn import IdealRadioCarrier

    decides = make_policy(policy)
    expected = server_run.in_one_process(images, decides, IdealRadioCarrier(links))
    answer = answer_to(client, images, policy=decides)
    np.testing.assert_allclose(answer.probability_TC, expected.y_TC.numpy(), atol=1e-5, rtol=0)
    np.testing.assert_allclose(answer.scores_TE, expected.scores_TE.numpy(), atol=1e-5, rtol=0)
    np.testing.assert_array_equal(answer.dispatched.requested_TE, expected.dispatched.requested_TE)
    np.testing.assert_allclose(answer.dispatched.energy_j_T, expected.dispatched.energy_j_T, rtol=1e-12)
    assert answer.dispatched.decided_by == policy
    assert (answer.dispatched.energy_j_T > 0).all(), "nobody answers for nothing"


@pytest.mark.parametrize("policy", ["topk:1", "topk:2", "all"])
def test_the_mesh_answers_as_the_mixture_does_with_all_experts_at_hand(
    client: MeshClient, server_run: ServerRun, links: Links, images: NDArray[np.uint8], policy: str
) -> None:
    from airmoe.nn import LocalCarrier

    decides = make_policy(policy)
    seen = LinkSnr(links.snr_db(np.full(len(images), SERVER_NODE), np.arange(EXPERTS)))
    expected = server_run.in_one_process(images, decides, LocalCarrier(), seen).y_TC.numpy()
    answer = answer_to(client, images, policy=decides)
    np.testing.assert_allclose(answer.probability_TC, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("policy", ["topk:1", "topk:2", "all", "cheapest:2"])
def test_over_analog_links_without_noise_the_mesh_answers_and_charges_as_the_analog_carrier(
    server_run: ServerRun, expert_nodes: list[NodeProcess], images: NDArray[np.uint8], policy: str
) -> None:
    from airmoe.nn import RadioCarrier
    from airmoe.radio import Analog

    clear = links_at(*[NO_NOISE_DB] * EXPERTS)
    with MeshClient(
        server_run.server,
        [expert_nodes[0].address],
        links=clear,
        policy=make_policy(policy),
        transmission="analog",
    ) as client:
        client.wait_for_nodes(EXPERTS)
        answer = answer_to(client, images)
    no_noise = LinkSnr(np.full((len(images), EXPERTS), np.inf), np.full((len(images), EXPERTS), NO_NOISE_DB))
    radio = RadioCarrier(Analog(), clear)
    expected = server_run.in_one_process(images, make_policy(policy), radio, no_noise)
    np.testing.assert_allclose(answer.probability_TC, expected.y_TC.numpy(), atol=1e-5, rtol=0)
    np.testing.assert_array_equal(answer.dispatched.requested_TE, expected.dispatched.requested_TE)
    np.testing.assert_allclose(answer.dispatched.energy_j_T, expected.dispatched.energy_j_T, rtol=1e-12)


def test_an_answer_tells_what_the_gate_saw(
    client: MeshClient, links: Links, images: NDArray[np.uint8]
) -> None:
    answer = answer_to(client, images, policy=TopK(1))
    expected = links.snr_db(np.full(len(images), SERVER_NODE), np.arange(EXPERTS))
    np.testing.assert_array_equal(answer.snr_db_TE, expected)
    assert answer.transmission == "ideal"


def test_a_policy_that_wants_the_own_expert_reaches_nobody(
    client: MeshClient, images: NDArray[np.uint8]
) -> None:
    with pytest.raises(NoExpertReachedError, match="item 0 at node 4: no expert answered"):
        answer_to(client, images, policy=Local())


def test_with_no_node_alive_a_query_fails_at_once(
    server_run: ServerRun, address: str, images: NDArray[np.uint8]
) -> None:
    with MeshClient(server_run.server, [address]) as client:
        for policy in (TopK(1), Jesa()):
            with pytest.raises(NoExpertReachedError, match="the node holds no expert of its own"):
                answer_to(client, images, policy=policy)


def test_dead_experts_are_routed_around_until_none_is_left(
    server_run: ServerRun, images: NDArray[np.uint8]
) -> None:
    with ExitStack() as open_:
        addresses = [free_address() for _ in server_run.experts]
        nodes = open_.enter_context(node_processes(server_run.experts, addresses))
        client = open_.enter_context(MeshClient(server_run.server, addresses))
        client.wait_for_nodes(EXPERTS)
        likes = prefer(0.1, 0.2, 0.3, 0.4)
        for lost in (3, 2, 1):
            assert answer_to(client, images, gate=likes).dispatched.arrived_TE.all(axis=0).tolist() == [
                expert == lost for expert in range(EXPERTS)
            ]
            nodes[lost].kill()
        nodes[0].freeze()
        with pytest.raises(NoExpertReachedError):
            client.predict(images, gate=likes, deadline_s=0.5)


def test_an_expert_lost_in_the_middle_of_a_request_is_routed_around(
    server_run: ServerRun, images: NDArray[np.uint8]
) -> None:
    folders = server_run.experts[:2]
    with (
        node_processes(folders, [free_address() for _ in folders]) as nodes,
        MeshClient(server_run.server, [nodes[0].address]) as client,
    ):
        client.wait_for_nodes(2)
        nodes[1].freeze()
        answer = client.predict(images, gate=prefer(0.4, 0.6, 0.0, 0.0), deadline_s=4.0)
    assert counts(answer.dispatched.requested_TE) == [64, 64, 0, 0]
    assert counts(answer.dispatched.arrived_TE) == [64, 0, 0, 0]
    assert answer.dispatched.rerouted_T.all()
    assert answer.degraded_T.all(), "the gate wanted the expert that was lost"


class Crowded:
    """JESA that has every link use one subcarrier."""

    name, joint, fallback = "crowded", True, Jesa().fallback

    def route(self, scores_TE: ArrayLike, cost: Cost, slot: Slot) -> Routing:
        routing = Jesa().route(scores_TE, cost, slot)
        return replace(routing, subcarrier_NN=np.full((EXPERTS + 1, EXPERTS + 1), 7))


def test_a_server_decides_by_a_joint_policy_itself_and_says_when_no_radio_can_follow(
    client: MeshClient, links: Links, images: NDArray[np.uint8], caplog: pytest.LogCaptureFixture
) -> None:
    before = answer_to(client, images, policy=Jesa())
    assert before.dispatched.decided_by == "jesa:0.5:2"
    one_for_all = np.full((EXPERTS + 1, EXPERTS + 1, links.radio.subcarriers), 1e-13)
    one_for_all[:, :, 7] = 1e-11  # every link is best on the same subcarrier
    same_best = Links.from_gain(one_for_all, links.radio)
    assert answer_to(client, images, policy=Jesa(), links=same_best).dispatched.decided_by == "jesa:0.5:2"
    assert warnings_of(caplog) == []
    answer = answer_to(client, images, policy=Crowded(), links=same_best)
    assert answer.dispatched.decided_by == "des:0.5:2"
    (said,) = warnings_of(caplog)
    assert said.startswith("subcarrier 7 of the slot serves 20 links; expected one; until one decides again")


def test_every_byte_is_counted(client: MeshClient, images: NDArray[np.uint8]) -> None:
    answer = answer_to(client, images, policy=All())
    assert answer.sent_bytes == EXPERTS * (64 * 400 * 4 + 41 + 3 + len("payload") + 2 * 4)
    assert answer.received_bytes == EXPERTS * (64 * 10 * 4 + 41 + 3 + len("output") + 2 * 4)


def test_an_experts_folder_cannot_ask(server_run: ServerRun) -> None:
    with pytest.raises(InvalidInputError) as raised:
        MeshClient(server_run.experts[1])
    assert str(server_run.experts[1]) in str(raised.value)
    assert "this one serves expert 1 alone, and has no gate" in str(raised.value)


def test_a_folder_that_asks_at_two_layers_cannot_ask_yet(server_run: ServerRun, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(server_run.server, tmp_path / "deep"))
    manifest = read_manifest(folder)
    assert manifest.asks is not None
    second = manifest.layers[0].model_copy(update={"layer": 2})
    gates = [*manifest.asks.gates, manifest.asks.gates[0].model_copy(update={"layer": 2})]
    asks = manifest.asks.model_copy(update={"gates": gates})
    write_manifest(folder, manifest.model_copy(update={"layers": [*manifest.layers, second], "asks": asks}))
    with pytest.raises(InvalidInputError, match="expected a client that asks at one layer"):
        MeshClient(folder)


def test_a_servers_folder_cannot_be_served(server_run: ServerRun, address: str) -> None:
    with pytest.raises(InvalidInputError) as raised:
        Node(server_run.server, address)
    assert str(server_run.server) in str(raised.value)
    assert "this one has none to serve, it only asks" in str(raised.value)


def test_a_node_does_not_schedule_for_a_server(server_run: ServerRun, address: str) -> None:
    with pytest.raises(InvalidInputError, match=r"schedule is 'jesa:0.5:2'; expected none: the server"):
        Node(server_run.experts[0], address, schedule=Jesa())


@pytest.mark.parametrize("nodes", [EXPERTS, EXPERTS + 2])
def test_links_between_another_number_of_nodes_are_refused(
    server_run: ServerRun, client: MeshClient, nodes: int
) -> None:
    wrong = simulated_links(client.manifest.radio, nodes)
    message = rf"links.nodes is {nodes}; expected 5, the nodes of this mesh"
    with pytest.raises(InvalidInputError, match=message):
        MeshClient(server_run.server, links=wrong)
    with pytest.raises(InvalidInputError, match=message):
        answer_to(client, np.zeros((1, 1, 32, 32), np.uint8), links=wrong)


@pytest.mark.parametrize("name", ["extractor", "gate"])
@pytest.mark.parametrize("harm", ["cut off", "missing"])
def test_a_server_does_not_run_a_damaged_network(
    server_run: ServerRun, tmp_path: Path, name: str, harm: str
) -> None:
    copy = Path(shutil.copytree(server_run.server, tmp_path / "copy"))
    path = copy / f"{name}.onnx"
    if harm == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1])
    said = "cannot be read: No such file" if harm == "missing" else "is damaged: SHA-256"
    with pytest.raises(RunFolderError, match=rf"{name}.onnx {said}"):
        MeshClient(copy)


def test_a_gate_that_takes_less_than_the_manifest_says_is_refused(own_copy: Path) -> None:
    manifest = read_manifest(own_copy)
    assert manifest.asks is not None
    gates = [gate.model_copy(update={"sees_snr": True}) for gate in manifest.asks.gates]
    asks = manifest.asks.model_copy(update={"gates": gates})
    write_manifest(own_copy, manifest.model_copy(update={"asks": asks}))
    with pytest.raises(RunFolderError, match=r"gate.onnx takes input; the manifest says input, snr_db"):
        MeshClient(own_copy)


def test_a_server_asks_from_a_copy_of_its_folder(
    server_run: ServerRun, expert_nodes: list[NodeProcess], tmp_path: Path, images: NDArray[np.uint8]
) -> None:
    shutil.copytree(server_run.server, tmp_path / "moved")
    with MeshClient(tmp_path / "moved", [expert_nodes[0].address]) as client:
        client.wait_for_nodes(EXPERTS)
        assert answer_to(client, images).dispatched.arrived_TE.any(axis=1).all()


def test_an_experts_node_needs_no_more_than_its_own_files(
    server_run: ServerRun, tmp_path: Path, address: str
) -> None:
    shutil.copytree(server_run.experts[2], tmp_path / "clients/02")
    with Node(tmp_path / "clients/02", address) as node:
        assert [each.expert for each in node.manifest.serves] == [2]


def test_the_radio_of_a_run_says_how_it_transmits(server_run: ServerRun, tmp_path: Path) -> None:
    shutil.copytree(server_run.folder, tmp_path / "copy")
    folder = tmp_path / "copy" / "clients" / "server"
    radio = RadioSpec(**(read_manifest(folder).radio.model_dump() | {"transmission": "analog"}))
    write_manifest(folder, read_manifest(folder).model_copy(update={"radio": radio}))
    with MeshClient(folder) as client:
        assert client.transmission == "analog"
    with MeshClient(folder, transmission="ideal") as client:
        assert client.transmission == "ideal"


def test_a_policy_may_be_given_as_its_text(client: MeshClient, images: NDArray[np.uint8]) -> None:
    named, made = (answer_to(client, images[:3], policy=policy) for policy in ("topk:2", TopK(2)))
    np.testing.assert_array_equal(named.dispatched.requested_TE, made.dispatched.requested_TE)
    with pytest.raises(InvalidInputError, match="policy is 'best:2'; expected topk:K"):
        client.predict(images[:1], policy="best:2")


def test_a_client_tells_the_experts_it_reaches_from_those_that_live(
    server_run: ServerRun, expert_nodes: list[NodeProcess], images: NDArray[np.uint8]
) -> None:
    """With two subcarriers for the 20 links of five nodes, the server has a link to two experts at most."""
    gain_NNM = np.full((EXPERTS + 1, EXPERTS + 1, 2), 1e-14)
    gain_NNM[SERVER_NODE, 1, 0] = 1e-12
    gain_NNM[0, 1, 1] = 1e-12  # the other subcarrier serves two nodes that this client is not
    links = Links.from_gain(gain_NNM, Ofdma(subcarriers=2))
    with MeshClient(server_run.server, [expert_nodes[0].address], links=links) as client:
        client.wait_for_nodes(EXPERTS)
        living_E, reached_E = client.reach()
        assert living_E.all()
        assert reached_E.tolist() == [False, True, False, False]
        assert client.reach("jesa:0.5:2").reached_E.all()  # any link may get a subcarrier
        chosen_TE = answer_to(client, images[:1], policy=All()).dispatched.requested_TE
        assert chosen_TE[0].tolist() == reached_E.tolist()
