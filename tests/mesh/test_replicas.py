"""Several experts on a node, replicas, several layers: the mesh answers as the simulation does.

Two nodes serve five experts each, two of them both. Both ask, and so does a third client without experts.
"""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from airmoe.dispatch import LossyCarrier, dispatch
from airmoe.dispatch.mixing import mix, mixing_weights
from airmoe.links import Links
from airmoe.manifest import ExpertSpec, LayerSpec, Manifest, OutputSpec, read_manifest, write_manifest
from airmoe.mesh import Answer, MeshClient, Node, open_session, simulated_links
from airmoe.mesh.carrier import MeshCarrier
from airmoe.mesh.layer import MeshLayer
from airmoe.mesh.membership import any_node
from airmoe.mesh.peers import Peers
from airmoe.mesh.queries import asker_name
from airmoe.mesh.requests import Traffic
from airmoe.mesh.wire import Wire
from airmoe.randomness import stream
from airmoe.runfolder import client_folders, sha256_of
from airmoe.scheduling import All, Slot, make_policy
from tests.mesh.exported import export_maps, map_model
from tests.mesh.impostor import Impostor, honest
from tests.mesh.ports import free_address
from tests.mesh.processes import NodeProcess
from tests.mesh.steering import LONG_S, alive, answer_to, counts, prefer, wait_until

if TYPE_CHECKING:
    from airmoe.nn import MixtureOfExperts
    from airmoe.nn.moe_layer import MoeOutput

torch = pytest.importorskip("torch")

PLACEMENT = ((0,), (0,), (0,), (0, 1), (0, 1), (1,), (1,), (1,))
POLICIES = ["topk:1", "topk:3", "all", "des:0.5:2", "best-link:3", "jesa:0.5:2"]


@pytest.fixture(scope="module")
def model() -> "MixtureOfExperts":
    return map_model(placement=PLACEMENT)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, model: "MixtureOfExperts") -> list[Path]:
    """Of nodes 0 and 1, which serve five experts each, and of client 2, which only asks."""
    folder = tmp_path_factory.mktemp("placed") / "run"
    export_maps(folder, model, server=False, holds=[[0, 1], [2, 3], []], placement=PLACEMENT)
    return client_folders(folder)


@pytest.fixture(scope="module")
def links(folders: list[Path]) -> Links:
    manifest = read_manifest(folders[0])
    return simulated_links(manifest.radio, manifest.nodes)


@pytest.fixture(scope="module")
def grey() -> NDArray[np.float32]:
    return np.random.default_rng(2).random((40, 1, 20, 20), np.float32)


@pytest.fixture
def nodes(folders: list[Path]) -> Iterator[list[NodeProcess]]:
    """Processes of the two nodes, both of which schedule. A test may kill them."""
    addresses = [free_address(), free_address()]
    with ExitStack() as open_:
        processes = []
        for node in (0, 1):
            connect = addresses[:node]
            processes.append(NodeProcess(folders[node], addresses[node], connect, schedule="jesa:0.5:2"))
            open_.callback(processes[-1].destroy)
        for process in processes:
            process.wait_until_serving()
        yield processes


@pytest.fixture
def clients(folders: list[Path], nodes: list[NodeProcess]) -> Iterator[list[MeshClient]]:
    with ExitStack() as open_:
        connect = [process.address for process in nodes]
        clients = [open_.enter_context(MeshClient(folder, connect)) for folder in folders]
        for client in clients:
            client.wait_for_nodes(2)
            assert client.schedulers.liveliness.wait_until(lambda alive: len(alive) == 2, 10)
        yield clients


def simulated(
    model: "MixtureOfExperts",
    grey: NDArray[np.float32],
    links: Links,
    source: int,
    policy: str,
    dead: tuple[int, ...] = (),
) -> "MoeOutput":
    """What the mixture answers in one process, over an ideal radio, without the dead nodes."""
    from airmoe.nn import IdealRadioCarrier

    carrier = LossyCarrier(IdealRadioCarrier(links), dead=dead)
    source_T = np.full(len(grey), source)
    with torch.no_grad():
        return model(torch.from_numpy(grey), source_T, policy=make_policy(policy), carrier=carrier)


def assert_same(answer: Answer, expected: "MoeOutput") -> None:
    for name in ("requested_TE", "arrived_TE", "intended_TE", "node_TE", "degraded_T", "rerouted_T"):
        actual, wanted = (getattr(each.dispatched, name) for each in (answer, expected))
        np.testing.assert_array_equal(actual, wanted, err_msg=name)
    np.testing.assert_allclose(answer.output_T, expected.y_TC.numpy(), atol=1e-5, rtol=0)
    assert expected.dispatched is not None
    np.testing.assert_allclose(answer.reached_T, expected.dispatched.reached_T, atol=1e-5, rtol=0)
    for name in ("energy_j_T", "airtime_s_T"):
        actual, wanted = (getattr(each.dispatched, name) for each in (answer, expected))
        np.testing.assert_allclose(actual, wanted, rtol=1e-9, err_msg=name)


def test_each_client_is_answered_as_in_simulation_and_so_after_either_node_is_killed(
    clients: list[MeshClient],
    nodes: list[NodeProcess],
    model: "MixtureOfExperts",
    links: Links,
    grey: NDArray[np.float32],
) -> None:
    for client, policy in ((client, policy) for client in clients for policy in POLICIES):
        answer = answer_to(client, grey, policy=make_policy(policy))
        assert_same(answer, simulated(model, grey, links, client.manifest.node, policy))
        assert answer.dispatched.decided_by == policy
        assert not answer.degraded_T.any()
    nodes[1].kill()
    for client in clients:
        wait_until(lambda client=client: alive(client) == {0})  # type: ignore[misc]
        for policy in POLICIES:
            expected = simulated(model, grey, links, client.manifest.node, policy, dead=(1,))
            assert_same(answer_to(client, grey, policy=make_policy(policy)), expected)


def test_when_the_first_node_dies_the_answers_keep_coming(
    clients: list[MeshClient],
    nodes: list[NodeProcess],
    model: "MixtureOfExperts",
    links: Links,
    grey: NDArray[np.float32],
) -> None:
    nodes[0].kill()
    for client in clients:
        wait_until(lambda client=client: alive(client) == {1})  # type: ignore[misc]
        for policy in POLICIES:
            expected = simulated(model, grey, links, client.manifest.node, policy, dead=(0,))
            assert_same(answer_to(client, grey, policy=make_policy(policy)), expected)


REPLICATED = prefer(0, 0, 0, 0.5, 0.5, 0, 0, 0)
"""Both experts that are on both nodes, and no other."""


def test_an_expert_is_asked_at_its_cheapest_node_and_at_the_other_when_that_is_dead(
    clients: list[MeshClient], nodes: list[NodeProcess], links: Links, grey: NDArray[np.float32]
) -> None:
    asker, policy = clients[2], make_policy("topk:2")
    first = answer_to(asker, grey, gate=REPLICATED, policy=policy)
    used = np.unique(first.dispatched.node_TE[first.dispatched.requested_TE])
    assert len(used) == 1, "one link is cheaper than the other"
    nodes[used[0]].kill()
    wait_until(lambda: alive(asker) == {1 - used[0]})
    second = answer_to(asker, grey, gate=REPLICATED, policy=policy)
    assert np.unique(second.dispatched.node_TE[second.dispatched.requested_TE]) == [1 - used[0]]
    assert counts(second.dispatched.arrived_TE) == [0, 0, 0, 40, 40, 0, 0, 0]
    assert not second.degraded_T.any()
    np.testing.assert_array_equal(second.reached_T, 1.0)
    np.testing.assert_allclose(second.output_T, first.output_T, atol=1e-6)
    assert (second.dispatched.energy_j_T > first.dispatched.energy_j_T).all()


def test_a_replica_that_freezes_is_asked_again_at_the_other_node(
    clients: list[MeshClient], nodes: list[NodeProcess], grey: NDArray[np.float32]
) -> None:
    asker, policy = clients[2], make_policy("topk:2")
    first = answer_to(asker, grey, gate=REPLICATED, policy=policy)
    (used,) = np.unique(first.dispatched.node_TE[first.dispatched.requested_TE])
    nodes[used].freeze()
    answer = asker.predict(grey, gate=REPLICATED, policy=policy, deadline_s=4.0)
    nodes[used].kill()
    assert answer.dispatched.rerouted_T.all()
    assert not answer.degraded_T.any()
    np.testing.assert_allclose(answer.output_T, first.output_T, atol=1e-6)


def test_of_a_replicated_expert_one_node_is_asked_only(
    folders: list[Path], grey: NDArray[np.float32]
) -> None:
    manifest, address = read_manifest(folders[2]), free_address()
    keys = [(expert, node) for expert, nodes in enumerate(PLACEMENT) for node in nodes]
    with (
        Impostor(manifest, [], honest_maps, address, replicas=keys) as impostor,
        MeshClient(folders[2], [address], policy=All()) as client,
    ):
        client.wait_for_nodes(2)
        answer_to(client, grey)
    assert sorted(request.expert or 0 for request in impostor.requests) == list(range(len(PLACEMENT)))


def honest_maps(request: Any) -> bytes:
    return honest(request, classes=4)


HIDDEN = OutputSpec(kind="hidden states", shape=[6, 5, 5])


@pytest.fixture(scope="module")
def deep(
    tmp_path_factory: pytest.TempPathFactory, folders: list[Path]
) -> tuple[list[Path], "torch.nn.ModuleList"]:
    """The same run with a second layer of three experts, whose outputs are maps, and the experts of it."""
    from airmoe.runs.onnx_files import export_onnx

    folder = tmp_path_factory.mktemp("deep") / "run"
    shutil.copytree(folders[0].parent.parent, folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        experts = torch.nn.ModuleList([torch.nn.Conv2d(3, 6, 3, padding=1) for _ in range(3)])
    exported = [folder / f"layer-2-expert-{expert}.onnx" for expert in range(3)]
    for expert, path in zip(experts, exported, strict=True):
        export_onnx(expert, {"input": torch.rand(4, 3, 5, 5)}, path)
    second = LayerSpec(
        layer=2,
        payload=[3, 5, 5],
        output=HIDDEN,
        placement=[[1], [0, 1], [0]],
        hashes=[sha256_of(path)[:16] for path in exported],
    )
    for client in client_folders(folder):
        manifest = read_manifest(client)
        files = {}
        for expert in second.experts_on(manifest.node):
            files[expert] = exported[expert].name
            shutil.copy(exported[expert], client)
        serves = [ExpertSpec(layer=2, expert=expert, file=file) for expert, file in files.items()]
        changes = {
            "layers": [*manifest.layers, second],
            "serves": [*manifest.serves, *serves],
            "sha256": manifest.sha256 | {file: sha256_of(client / file) for file in files.values()},
        }
        changed = Manifest.model_validate(manifest.model_copy(update=changes).model_dump())
        write_manifest(client, changed)
    return client_folders(folder), experts


def test_experts_of_two_layers_are_served_side_by_side_under_keys_of_their_own(
    deep: tuple[list[Path], "torch.nn.ModuleList"], links: Links, model: "MixtureOfExperts", grey: Any
) -> None:
    folders, experts = deep
    seed, manifest = free_address(), read_manifest(folders[2])
    payload_T = np.random.default_rng(5).random((7, 3, 5, 5), np.float32)
    scores_TE = np.random.default_rng(6).dirichlet(np.ones(3), 7)
    with ExitStack() as open_:
        open_.enter_context(Node(folders[0], seed))
        open_.enter_context(Node(folders[1], free_address(), [seed]))
        client = open_.enter_context(MeshClient(folders[2], [seed]))
        client.wait_for_nodes(2)
        session = open_.enter_context(open_session(connect=[seed]))
        noise, asker = stream(0, "mesh noise"), asker_name(session, 2)
        wire = Wire(session, asker, 2)
        layer = MeshLayer(session, manifest, 2, {}, "float32", "ideal", noise, Peers(), wire, any_node)
        open_.callback(layer.close)
        assert layer.liveliness.wait_until(lambda alive: len(alive) == 4, 10)
        traffic = Traffic()
        slot = Slot(np.full(7, 2), layer.placement, links.observed, layer=2)
        dispatched = dispatch(
            payload_T, scores_TE, All(), MeshCarrier(layer, links, traffic), slot, deadline_s=LONG_S
        )
        first_layer = answer_to(client, grey, policy=make_policy("topk:2"))
    assert dispatched.arrived_TE.all()
    output_T = mix(mixing_weights(scores_TE, dispatched.arrived_TE), dispatched.deliveries)
    with torch.no_grad():
        each_TE = np.stack([expert(torch.from_numpy(payload_T)).numpy() for expert in experts], axis=1)
    np.testing.assert_allclose(output_T, np.einsum("te,te...->t...", scores_TE, each_TE), atol=1e-5)
    values = 7 * 3 * 5 * 5
    bundle_of_two = 4 + 2 + 2 * 8
    assert traffic.sent_bytes == 3 * (values * 4 + 41 + 3 + len("payload") + 4 * 4) + bundle_of_two
    assert_same(first_layer, simulated(model, grey, links, 2, "topk:2"))
