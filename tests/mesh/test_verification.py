"""A client that asks a second node for every output: what agrees counts, what does not names both nodes.

Experts 0 and 1 are at nodes 0 and 1 alike, expert 2 is at node 1 alone. Client 2 only asks.
"""

import json
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from airmoe.errors import InvalidInputError
from airmoe.manifest import read_manifest
from airmoe.mesh import Answer, MeshClient, simulated_links
from airmoe.mesh.frame import Frame, encode
from airmoe.runfolder import client_folders
from airmoe.scheduling import TopK, allocate_subcarriers
from tests.mesh.exported import export_maps, links_at, map_model
from tests.mesh.impostor import Impostor, reply_to
from tests.mesh.ports import free_address
from tests.mesh.steering import LONG_S, answer_to, prefer
from tests.system.commands import ended

pytest.importorskip("torch")

PLACEMENT = ((0, 1), (0, 1), (1,))
CLASSES = 4
FIRST = prefer(0.9, 0.06, 0.04)
"""Likes expert 0 best, then expert 1."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("verified") / "run"
    holds = [[0], [1], []]
    export_maps(folder, map_model(placement=PLACEMENT), server=False, holds=holds, placement=PLACEMENT)
    return client_folders(folder)


@pytest.fixture(scope="module")
def grey() -> NDArray[np.float32]:
    return np.random.default_rng(3).random((5, 1, 20, 20), np.float32)


def sure_of(label: int, by: float = 1.0) -> Callable[[Frame], bytes]:
    """Answers that give one class this probability, and the others the rest alike."""
    row_C = np.full(CLASSES, (1 - by) / (CLASSES - 1), np.float32)
    row_C[label] = by
    return lambda request: encode(reply_to(request, np.tile(row_C, (len(request.arrays["payload"]), 1))))


@pytest.fixture
def client(folders: list[Path], nodes: list[Impostor]) -> Iterator[MeshClient]:
    with MeshClient(folders[2], [node.address for node in nodes], verify=2) as client:
        client.wait_for_nodes(2)
        yield client


@pytest.fixture
def nodes(folders: list[Path]) -> Iterator[list[Impostor]]:
    """Nodes 0 and 1, both sure of class 0."""
    manifest = read_manifest(folders[2])
    with ExitStack() as open_:
        yield [
            open_.enter_context(
                Impostor(
                    manifest,
                    [],
                    sure_of(0),
                    free_address(),
                    replicas=[(expert, node) for expert, held in enumerate(PLACEMENT) if node in held],
                )
            )
            for node in (0, 1)
        ]


def asked(nodes: list[Impostor]) -> list[list[int | None]]:
    """The experts that each node was asked about."""
    return [[request.expert for request in node.requests] for node in nodes]


def answered(client: MeshClient, grey: NDArray[np.float32]) -> Answer:
    return answer_to(client, grey, policy=TopK(1), gate=FIRST)


def test_an_output_that_two_nodes_give_is_verified_and_both_requests_are_paid(
    client: MeshClient, nodes: list[Impostor], grey: NDArray[np.float32]
) -> None:
    answer = answered(client, grey)
    assert asked(nodes) == [[0], [0]]
    assert answer.verified_TE is not None
    assert answer.verified_TE.tolist() == [[True, False, False]] * 5
    assert not answer.degraded_T.any()
    assert (answer.output_T.argmax(axis=1) == 0).all()
    manifest = client.manifest
    links = simulated_links(manifest.radio, manifest.nodes)
    joules_N = links.energy_per_bit_j(client.layer.ideal_price(links).subcarrier_NN)[manifest.node]
    bits = 3 * 5 * 5 * 32 + 32
    np.testing.assert_allclose(answer.dispatched.energy_j_T, bits * (joules_N[0] + joules_N[1]))


def test_nodes_that_contradict_each_other_are_named_and_neither_counts(
    client: MeshClient,
    nodes: list[Impostor],
    grey: NDArray[np.float32],
    caplog: pytest.LogCaptureFixture,
) -> None:
    nodes[1].answer = lambda request: (sure_of(3) if request.expert == 0 else sure_of(0))(request)
    with caplog.at_level(logging.WARNING, "airmoe.mesh"):
        answer = answered(client, grey)
    assert not answer.dispatched.arrived_TE[:, 0].any()
    assert answer.degraded_T.all()
    assert answer.dispatched.arrived_TE[:, 1].all(), "the next best expert answered, and both nodes agreed"
    assert answer.verified_TE is not None
    assert answer.verified_TE[:, 1].all()
    assert sorted(asked(nodes)[0]) == sorted(asked(nodes)[1]) == [0, 1], "nobody is asked again"
    (line,) = [record.getMessage() for record in caplog.records if "contradict" in record.getMessage()]
    assert re.fullmatch(
        "expert 0: nodes (0 and 1|1 and 0) contradict each other about 5 items, by up to 1; neither counts",
        line,
    )


def test_after_a_contradiction_a_third_node_is_asked_and_only_what_was_asked_is_paid(
    tmp_path: Path, grey: NDArray[np.float32]
) -> None:
    placement = ((0, 1, 2), (0,))
    model, holds = map_model(placement=placement), [[0], [1], [2], []]
    export_maps(tmp_path, model, server=False, holds=holds, placement=placement)
    folder, links = client_folders(tmp_path)[3], links_at(20, 15, 10, nodes=4)  # the liars are heard best
    manifest = read_manifest(folder)
    with ExitStack() as open_:
        nodes = [
            open_.enter_context(Impostor(manifest, [], sure_of(node), free_address(), replicas=[(0, node)]))
            for node in range(3)
        ]
        client = open_.enter_context(MeshClient(folder, [node.address for node in nodes], verify=2))
        client.layer.liveliness.wait_until(lambda alive: len(alive) == 3, LONG_S)
        answer = answer_to(client, grey, policy=TopK(1), gate=prefer(0.9, 0.1), links=links)
    assert asked(nodes) == [[0], [0], [0]]
    assert answer.verified_TE is not None
    assert not answer.verified_TE.any()
    assert (answer.output_T.argmax(axis=1) == 2).all()
    assert not answer.degraded_T.any()
    joules_N = links.energy_per_bit_j(allocate_subcarriers(links))[manifest.node]
    np.testing.assert_allclose(answer.dispatched.energy_j_T, (3 * 5 * 5 * 32 + 32) * joules_N[:3].sum())


def test_rounding_is_no_contradiction(
    client: MeshClient, nodes: list[Impostor], grey: NDArray[np.float32]
) -> None:
    nodes[0].answer, nodes[1].answer = sure_of(0, 0.9), sure_of(0, 0.9005)
    answer = answered(client, grey)
    assert answer.verified_TE is not None
    assert answer.verified_TE[:, 0].all()
    nodes[1].answer = sure_of(0, 0.902)
    assert not answered(client, grey).dispatched.arrived_TE[:, 0].any()


@pytest.mark.parametrize("honest", [0, 1])
def test_where_one_of_them_does_not_answer_the_other_one_counts_unverified(
    folders: list[Path], nodes: list[Impostor], grey: NDArray[np.float32], honest: int
) -> None:
    nodes[1 - honest].answer = lambda request: None
    with MeshClient(folders[2], [node.address for node in nodes], verify=2, hedge_s=0.02) as client:
        client.wait_for_nodes(2)
        answer = answered(client, grey)
    assert answer.verified_TE is not None
    assert not answer.verified_TE.any()
    assert (answer.output_T.argmax(axis=1) == 0).all()
    assert answer.dispatched.arrived_TE[:, 0].all()
    assert not answer.degraded_T.any()


def test_an_expert_at_one_node_counts_unverified(
    client: MeshClient, nodes: list[Impostor], grey: NDArray[np.float32]
) -> None:
    answer = answer_to(client, grey, policy=TopK(1), gate=prefer(0.1, 0.1, 0.8))
    assert asked(nodes) == [[], [2]]
    assert answer.dispatched.arrived_TE[:, 2].all()
    assert answer.verified_TE is not None
    assert not answer.verified_TE.any()


def test_who_does_not_verify_asks_one_node(
    folders: list[Path], nodes: list[Impostor], grey: NDArray[np.float32]
) -> None:
    with MeshClient(folders[2], [node.address for node in nodes]) as client:
        client.wait_for_nodes(2)
        answer = answered(client, grey)
    assert [*asked(nodes)[0], *asked(nodes)[1]] == [0]
    assert answer.verified_TE is None


@pytest.mark.parametrize("verify", [0, 3, True, 1.5])
def test_other_numbers_of_nodes_are_refused(folders: list[Path], verify: object) -> None:
    with pytest.raises(InvalidInputError, match=r"verify is"):
        MeshClient(folders[2], verify=verify)  # type: ignore[arg-type]


def test_over_analog_links_nothing_can_be_verified(folders: list[Path]) -> None:
    with pytest.raises(InvalidInputError, match=r"verify is 2; expected 1 over analog links"):
        MeshClient(folders[2], transmission="analog", verify=2)


def test_a_run_without_replicas_cannot_be_verified(own_copy: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"verify is 2; expected 1: every expert .* one node alone"):
        MeshClient(own_copy, verify=2)


def test_predict_says_what_was_verified_and_names_who_contradicts(
    folders: list[Path], nodes: list[Impostor], tmp_path: Path
) -> None:
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(tmp_path / "black.png")
    connect = [word for node in nodes for word in ("--connect", node.address)]
    asked = (
        "predict",
        tmp_path / "black.png",
        "--client",
        folders[2],
        *connect,
        "--verify",
        2,
        "--policy",
        "topk:2",
        "--insecure",
    )
    agreed = ended(*asked)
    assert re.search(r"\d \(remote, score [\d.]+, link [\d.-]+ dB, verified\)", agreed.stdout), agreed
    told = json.loads(ended(*asked, "--json").stdout)["answered_by"]
    assert {each["expert"]: each["verified"] for each in told}[2] is False, "it is at one node alone"
    assert sorted(each["verified"] for each in told) == [False, True]
    nodes[1].answer = sure_of(3)
    contradicted = ended(*asked)
    assert re.search(r"expert \d: nodes [01] and [01] contradict each other", contradicted.stderr), (
        contradicted
    )
    assert ", verified" not in contradicted.stdout
