"""With every node up, the mesh answers what the same model answers in one process, and counts every byte."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from airmoe.data import ImageSet
from airmoe.errors import InvalidInputError, NoNodeReachableError, RunFolderError
from airmoe.manifest import Manifest, read_manifest, write_manifest
from airmoe.mesh import MeshClient, Node, open_session, simulated_links
from airmoe.mesh.frame import WireType
from airmoe.nn import MixtureOfExperts
from airmoe.nn.carriers import LocalCarrier
from airmoe.scheduling import All, Local, TopK, allocate_subcarriers, make_policy
from tests.mesh.ports import free_address
from tests.mesh.processes import NodeProcess, node_processes
from tests.mesh.steering import counts

torch = pytest.importorskip("torch")

HEADER_BYTES = 50
"""8 before the shape, 4 for each of two dimensions, 34 behind it."""
FEATURES, CLASSES = 400, 10
NORM_BITS = 32
"""The norm of a payload is charged beside it."""
POLICIES = ["topk:1", "topk:2", "des:0.5:2", "all", "local"]


@pytest.fixture(scope="module")
def processes(folders: list[Path]) -> Iterator[list[NodeProcess]]:
    with node_processes(folders, [free_address() for _ in folders]) as processes:
        yield processes


@pytest.fixture(scope="module")
def client(folders: list[Path], processes: list[NodeProcess]) -> Iterator[MeshClient]:
    with MeshClient(folders[0], [processes[0].address]) as client:
        client.wait_for_nodes(4)
        yield client


@pytest.mark.parametrize("policy", POLICIES)
def test_the_mesh_answers_as_the_model_does_in_one_process(
    client: MeshClient, model: MixtureOfExperts, digits: ImageSet, policy: str
) -> None:
    client.policy = model.policy = make_policy(policy)
    for start in range(0, len(digits.test_images), 64):
        batch = digits.test_images[start : start + 64]
        answer = client.predict(batch)
        with torch.no_grad():
            expected = model(torch.from_numpy(batch).float() / 255)
        np.testing.assert_allclose(answer.probability_TC, expected.y_TC.numpy(), atol=1e-5, rtol=0)
        np.testing.assert_allclose(answer.scores_TE, expected.scores_TE.numpy(), atol=1e-5, rtol=0)
        np.testing.assert_array_equal(answer.dispatched.requested_TE, expected.dispatched.requested_TE)
        np.testing.assert_allclose(
            answer.dispatched.energy_j_T, expected.dispatched.energy_j_T, rtol=1e-12, atol=0
        )


@pytest.mark.parametrize("policy", ["topk:1", "topk:2", "all", "local"])
def test_where_energy_decides_nothing_free_transfers_answer_alike(
    client: MeshClient,
    model: MixtureOfExperts,
    images: NDArray[np.uint8],
    monkeypatch: pytest.MonkeyPatch,
    policy: str,
) -> None:
    monkeypatch.setattr(model, "carrier", LocalCarrier())
    client.policy = model.policy = make_policy(policy)
    with torch.no_grad():
        expected = model(torch.from_numpy(images).float() / 255)
    answer = client.predict(images)
    np.testing.assert_allclose(answer.probability_TC, expected.y_TC.numpy(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("policy", POLICIES)
def test_every_byte_is_counted(client: MeshClient, images: NDArray[np.uint8], policy: str) -> None:
    client.policy = make_policy(policy)
    answer = client.predict(images)
    remote_TE = answer.dispatched.requested_TE[:, 1:]
    pairs, asked = remote_TE.sum(), remote_TE.any(axis=0).sum()
    assert answer.sent_bytes == pairs * FEATURES * 4 + asked * HEADER_BYTES
    assert answer.received_bytes == pairs * CLASSES * 4 + asked * HEADER_BYTES


def test_the_policies_here_do_use_other_nodes(client: MeshClient, images: NDArray[np.uint8]) -> None:
    client.policy = TopK(1)
    assert sum(counts(client.predict(images).dispatched.arrived_TE)[1:]) > len(images) // 2


def test_local_asks_nobody(client: MeshClient, images: NDArray[np.uint8]) -> None:
    client.policy = Local()
    answer = client.predict(images)
    assert (answer.sent_bytes, answer.received_bytes) == (0, 0)
    assert counts(answer.dispatched.arrived_TE) == [64, 0, 0, 0]
    assert not answer.dispatched.energy_j_T.any()
    assert not answer.dispatched.degraded_T.any()


@pytest.mark.parametrize(("wire_type", "tolerance"), [("float16", 2e-3), ("bfloat16", 2e-2)])
def test_a_narrow_wire_halves_bytes_and_price_and_hardly_changes_answers(
    folders: list[Path],
    processes: list[NodeProcess],
    client: MeshClient,
    manifest: Manifest,
    images: NDArray[np.uint8],
    wire_type: WireType,
    tolerance: float,
) -> None:
    client.policy = All()
    full = client.predict(images)
    with MeshClient(folders[0], [processes[0].address], policy=All(), wire_type=wire_type) as narrow:
        narrow.wait_for_nodes(4)
        answer = narrow.predict(images)
    np.testing.assert_allclose(answer.probability_TC, full.probability_TC, atol=tolerance, rtol=0)
    assert not np.array_equal(answer.probability_TC, full.probability_TC)
    assert answer.sent_bytes == 3 * (64 * FEATURES * 2 + HEADER_BYTES)
    assert answer.received_bytes == 3 * (64 * CLASSES * 2 + HEADER_BYTES)
    links = simulated_links(manifest.radio, 4)
    per_bit_j = links.energy_per_bit_j(allocate_subcarriers(links))[0].sum()
    np.testing.assert_allclose(
        answer.dispatched.energy_j_T, (FEATURES * 16 + NORM_BITS) * per_bit_j, rtol=1e-12
    )


def test_one_image_is_a_batch(client: MeshClient, images: NDArray[np.uint8]) -> None:
    client.policy = All()
    alone = client.predict(images[:1]).probability_TC
    np.testing.assert_allclose(alone, client.predict(images).probability_TC[:1], atol=1e-5, rtol=0)


def test_bytes_and_their_shares_of_one_are_the_same_image(
    client: MeshClient, images: NDArray[np.uint8]
) -> None:
    client.policy = All()
    shares = images.astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(
        client.predict(images).probability_TC, client.predict(shares).probability_TC
    )


@pytest.mark.parametrize("seed", range(4))
def test_any_one_nodes_address_finds_all(
    folders: list[Path], processes: list[NodeProcess], seed: int
) -> None:
    with MeshClient(folders[0], [processes[seed].address]) as client:
        assert client.wait_for_nodes(4) == 4
        assert client.carrier.liveliness.alive == {0, 1, 2, 3}


def test_every_client_can_ask(
    folders: list[Path], processes: list[NodeProcess], images: NDArray[np.uint8]
) -> None:
    answers = []
    for folder in folders:
        with MeshClient(folder, [processes[0].address], policy=All()) as client:
            client.wait_for_nodes(4)
            answers.append(client.predict(images).probability_TC)
    for answer in answers[1:]:
        np.testing.assert_allclose(answer, answers[0], atol=1e-5, rtol=0)


def test_a_session_that_was_lent_is_left_open(
    folders: list[Path], processes: list[NodeProcess], images: NDArray[np.uint8]
) -> None:
    with open_session(connect=[processes[0].address]) as session:
        for _ in range(2):
            with MeshClient(folders[0], session=session) as client:
                client.wait_for_nodes(4)
                assert not client.predict(images).dispatched.degraded_T.any()
        assert not session.is_closed()


GOOD = np.zeros((2, 1, 32, 32), np.float32)
BAD_IMAGES = {
    "one image without its batch": GOOD[0],
    "another size": GOOD[:, :, :31],
    "colour": np.zeros((2, 3, 32, 32), np.uint8),
    "no image": GOOD[:0],
    "float64": GOOD.astype(np.float64),
    "int64": GOOD.astype(np.int64),
    "bool": GOOD.astype(np.bool_),
    "object": GOOD.astype(object),
    "NaN": GOOD + np.float32("nan"),
    "infinite": GOOD + np.float32("inf"),
    "0 to 255 as float": GOOD + np.float32(255),
    "negative": GOOD - np.float32(0.1),
    "too many": np.broadcast_to(np.uint8(0), (41_944, 1, 32, 32)),
}


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_bad_images_are_refused_before_anything_is_sent(client: MeshClient, case: str) -> None:
    sent = client.carrier.sent_bytes
    with pytest.raises(InvalidInputError, match=r"^images is .*; expected "):
        client.predict(BAD_IMAGES[case])
    assert client.carrier.sent_bytes == sent


@pytest.mark.parametrize("deadline_s", [-1, np.nan, np.inf, 1e9, "soon"])
def test_a_bad_deadline_is_refused(client: MeshClient, deadline_s: float) -> None:
    with pytest.raises(InvalidInputError, match=r"^deadline_s is"):
        client.predict(GOOD, deadline_s=deadline_s)


def test_no_node_names_the_address_and_the_mesh(folders: list[Path], address: str) -> None:
    with (
        MeshClient(folders[0], [address]) as client,
        pytest.raises(NoNodeReachableError) as raised,
    ):
        client.wait_for_nodes(timeout_s=0.2)
    assert address in str(raised.value)
    assert "mesh 'lab'" in str(raised.value)
    assert "found 0" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_node_that_starts_after_the_client_is_found(folders: list[Path], address: str) -> None:
    with MeshClient(folders[0], [address]) as client, Node(folders[1], address):
        assert client.wait_for_nodes() == 1


def test_nodes_of_another_mesh_are_not_ours(folders: list[Path], own_copy: Path, address: str) -> None:
    write_manifest(own_copy, read_manifest(own_copy).model_copy(update={"mesh": "elsewhere"}))
    with (
        Node(own_copy, address),
        Node(folders[1], free_address(), [address]),
        MeshClient(folders[2], [address]) as client,
    ):
        client.wait_for_nodes()
        assert client.carrier.liveliness.alive == {1}


@pytest.mark.parametrize("name", ["extractor", "gate"])
def test_a_client_does_not_run_a_damaged_network(own_copy: Path, name: str) -> None:
    path = own_copy.parent.parent / "shared" / f"{name}.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RunFolderError, match=rf"{name}.onnx is damaged: SHA-256"):
        MeshClient(own_copy)


def test_a_client_does_without_pytorch(folders: list[Path], processes: list[NodeProcess]) -> None:
    script = """
import sys
from pathlib import Path
import numpy as np
from airmoe.mesh import MeshClient
with MeshClient(Path(sys.argv[1]), [sys.argv[2]]) as client:
    client.wait_for_nodes(4)
    client.predict(np.zeros((1, 1, 32, 32), np.uint8))
print("torch" in sys.modules)
"""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, str(folders[0]), processes[0].address],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "False\n", "")
