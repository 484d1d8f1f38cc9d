"""With every node up, the mesh answers what the same model answers in one process, and counts every byte."""

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from airmoe.data import ImageSet
from airmoe.errors import (
    DeadlineError,
    InvalidInputError,
    MeshError,
    NoExpertReachedError,
    NoNodeReachableError,
    RunFolderError,
)
from airmoe.links import RayleighFading
from airmoe.manifest import Manifest, read_manifest, write_manifest
from airmoe.mesh import Answer, MeshClient, Node, open_session, simulated_links
from airmoe.mesh.frame import WireType
from airmoe.nn import MixtureOfExperts
from airmoe.nn.carriers import LocalCarrier
from airmoe.scheduling import All, Local, TopK, allocate_subcarriers, make_policy
from tests.mesh.ports import free_address
from tests.mesh.processes import NodeProcess, node_processes
from tests.mesh.steering import LONG_S, alive, answer_to, counts, prefer

torch = pytest.importorskip("torch")

REQUEST_BYTES = 41 + 3 + len("payload") + 2 * 4
REPLY_BYTES = 41 + 3 + len("output") + 2 * 4
"""What a frame has besides values: its own head, and that of an array of two dimensions."""
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
    decides = make_policy(policy)
    for start in range(0, len(digits.test_images), 64):
        batch = digits.test_images[start : start + 64]
        answer = answer_to(client, batch, policy=decides)
        with torch.no_grad():
            expected = model(torch.from_numpy(batch).float() / 255, policy=decides)
        np.testing.assert_allclose(answer.probability_TC, expected.y_TC.numpy(), atol=1e-5, rtol=0)
        np.testing.assert_allclose(answer.scores_TE, expected.scores_TE.numpy(), atol=1e-5, rtol=0)
        np.testing.assert_array_equal(answer.dispatched.requested_TE, expected.dispatched.requested_TE)
        np.testing.assert_allclose(
            answer.dispatched.energy_j_T, expected.dispatched.energy_j_T, rtol=1e-12, atol=0
        )


@pytest.mark.parametrize("policy", ["topk:1", "topk:2", "all", "local"])
def test_where_energy_decides_nothing_free_transfers_answer_alike(
    client: MeshClient, model: MixtureOfExperts, images: NDArray[np.uint8], policy: str
) -> None:
    decides = make_policy(policy)
    with torch.no_grad():
        expected = model(torch.from_numpy(images).float() / 255, policy=decides, carrier=LocalCarrier())
    answer = answer_to(client, images, policy=decides)
    np.testing.assert_allclose(answer.probability_TC, expected.y_TC.numpy(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("policy", POLICIES)
def test_every_byte_is_counted(client: MeshClient, images: NDArray[np.uint8], policy: str) -> None:
    answer = answer_to(client, images, policy=make_policy(policy))
    remote_TE = answer.dispatched.requested_TE[:, 1:]
    pairs, asked = remote_TE.sum(), remote_TE.any(axis=0).sum()
    assert answer.sent_bytes == pairs * FEATURES * 4 + asked * REQUEST_BYTES
    assert answer.received_bytes == pairs * CLASSES * 4 + asked * REPLY_BYTES


def test_the_policies_here_do_use_other_nodes(client: MeshClient, images: NDArray[np.uint8]) -> None:
    assert sum(counts(answer_to(client, images, policy=TopK(1)).dispatched.arrived_TE)[1:]) > len(images) // 2


def test_local_asks_nobody(client: MeshClient, images: NDArray[np.uint8]) -> None:
    answer = answer_to(client, images, policy=Local())
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
    full = answer_to(client, images, policy=All())
    with MeshClient(folders[0], [processes[0].address], policy=All(), wire_type=wire_type) as narrow:
        narrow.wait_for_nodes(4)
        answer = answer_to(narrow, images)
    np.testing.assert_allclose(answer.probability_TC, full.probability_TC, atol=tolerance, rtol=0)
    assert not np.array_equal(answer.probability_TC, full.probability_TC)
    assert answer.sent_bytes == 3 * (64 * FEATURES * 2 + REQUEST_BYTES)
    assert answer.received_bytes == 3 * (64 * CLASSES * 2 + REPLY_BYTES)
    links = simulated_links(manifest.radio, 4)
    per_bit_j = links.energy_per_bit_j(allocate_subcarriers(links))[0].sum()
    np.testing.assert_allclose(
        answer.dispatched.energy_j_T, (FEATURES * 16 + NORM_BITS) * per_bit_j, rtol=1e-12
    )


def test_one_image_is_a_batch(client: MeshClient, images: NDArray[np.uint8]) -> None:
    alone = answer_to(client, images[:1], policy=All()).probability_TC
    together = answer_to(client, images, policy=All()).probability_TC
    np.testing.assert_allclose(alone, together[:1], atol=1e-5, rtol=0)


def test_bytes_and_their_shares_of_one_are_the_same_image(
    client: MeshClient, images: NDArray[np.uint8]
) -> None:
    shares = images.astype(np.float32) / np.float32(255)
    answers = [answer_to(client, each, policy=All()).probability_TC for each in (images, shares)]
    np.testing.assert_array_equal(*answers)


@pytest.mark.parametrize("seed", range(4))
def test_any_one_nodes_address_finds_all(
    folders: list[Path], processes: list[NodeProcess], seed: int
) -> None:
    with MeshClient(folders[0], [processes[seed].address]) as client:
        assert client.wait_for_nodes(4) == 4
        assert alive(client) == {0, 1, 2, 3}


def test_every_client_can_ask(
    folders: list[Path], processes: list[NodeProcess], images: NDArray[np.uint8]
) -> None:
    answers = []
    for folder in folders:
        with MeshClient(folder, [processes[0].address], policy=All()) as client:
            client.wait_for_nodes(4)
            answers.append(answer_to(client, images).probability_TC)
    for answer in answers[1:]:
        np.testing.assert_allclose(answer, answers[0], atol=1e-5, rtol=0)


def test_a_closed_client_answers_nothing(folders: list[Path], images: NDArray[np.uint8]) -> None:
    client = MeshClient(folders[0])
    client.close()
    for ask in (lambda: client.predict(images), client.wait_for_nodes):
        with pytest.raises(MeshError, match="this client is closed; expected an open one"):
            ask()


@pytest.mark.parametrize(
    ("least", "message"),
    [
        (0, "min_experts is 0; expected an integer of at least 1"),
        (5, "min_experts is 5; expected at most 4, the experts of the layer"),
    ],
)
def test_a_least_number_of_experts_out_of_range_is_refused(
    client: MeshClient, images: NDArray[np.uint8], least: int, message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        client.predict(images, min_experts=least)


def test_a_least_number_of_experts_is_kept_or_the_query_fails(
    client: MeshClient, images: NDArray[np.uint8]
) -> None:
    answer = answer_to(client, images, policy=All(), min_experts=4)
    assert answer.dispatched.arrived_TE.all()
    with pytest.raises(NoExpertReachedError, match="experts that answered about image 0: 1; expected at"):
        answer_to(client, images, policy=TopK(1), min_experts=2)


def test_a_client_that_opens_has_heard_of_every_node_that_it_was_told_of(
    folders: list[Path], processes: list[NodeProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airmoe.mesh.session.OPENING_S", LONG_S)
    for _ in range(3):
        with MeshClient(folders[0], [process.address for process in processes]) as client:
            assert alive(client) == {0, 1, 2, 3}


def test_more_images_than_can_be_prepared_in_time_are_refused_after_the_first_piece(
    client: MeshClient, images: NDArray[np.uint8]
) -> None:
    many = np.resize(images, (3000, *images.shape[1:]))
    with pytest.raises(DeadlineError, match=r"features of 3000 images would take .* 0.0 s are left"):
        client.predict(many, deadline_s=1e-4)


def test_a_session_that_was_lent_is_left_open(
    folders: list[Path], processes: list[NodeProcess], images: NDArray[np.uint8]
) -> None:
    with open_session(connect=[processes[0].address]) as session:
        for _ in range(2):
            with MeshClient(folders[0], session=session) as client:
                client.wait_for_nodes(4)
                assert not answer_to(client, images).dispatched.degraded_T.any()
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
    "a file's name": "photo.jpg",
    "a list": GOOD.tolist(),
    "no axes": np.float32(0.5),
    "an array without axes": np.array(0.5, np.float32),
    "too many": np.broadcast_to(np.uint8(0), (41_944, 1, 32, 32)),
}


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_bad_images_are_refused_before_anything_is_sent(client: MeshClient, case: str) -> None:
    def asked(payload_T: NDArray[np.float32], snr_db_TE: NDArray[np.float64] | None) -> NDArray[np.float32]:
        raise AssertionError("the gate was asked")

    with pytest.raises(InvalidInputError, match=r"^images is .*; expected "):
        answer_to(client, BAD_IMAGES[case], gate=asked)


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("one image without its batch", "images[np.newaxis] gives one image its axis of items"),
        ("a file's name", "T >= 1; airmoe.data.read_image reads a file"),
    ],
)
def test_bad_images_come_with_the_way_to_mend_them(client: MeshClient, case: str, said: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        answer_to(client, BAD_IMAGES[case])
    assert said in str(caught.value)


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
        assert alive(client) == {1}


@pytest.mark.parametrize("name", ["extractor", "gate"])
def test_a_client_does_not_run_a_damaged_network(own_copy: Path, name: str) -> None:
    path = own_copy / f"{name}.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RunFolderError, match=rf"{name}.onnx is damaged: SHA-256"):
        MeshClient(own_copy)


def test_threads_may_share_a_client(client: MeshClient, model: MixtureOfExperts, digits: ImageSet) -> None:
    policies = [make_policy(text) for text in ("topk:1", "topk:2", "all", "local")]
    parts = [digits.test_images[start : start + 20] for start in range(0, 80, 20)]
    together = threading.Barrier(len(parts))

    def ask(number: int) -> list[Answer]:
        together.wait(20)
        return [answer_to(client, parts[number], policy=policies[number]) for _ in range(10)]

    with ThreadPoolExecutor(len(parts)) as pool:
        asked = list(pool.map(ask, range(len(parts))))
    for part, policy, answers in zip(parts, policies, asked, strict=True):
        alone = answer_to(client, part, policy=policy)
        for answer in answers:
            np.testing.assert_array_equal(answer.dispatched.requested_TE, alone.dispatched.requested_TE)
            np.testing.assert_allclose(answer.output_T, alone.output_T, atol=1e-6, rtol=0)
            assert (answer.sent_bytes, answer.received_bytes) == (alone.sent_bytes, alone.received_bytes)


def test_a_query_may_have_a_gate_and_links_of_its_own(
    client: MeshClient, images: NDArray[np.uint8], manifest: Manifest
) -> None:
    usual = answer_to(client, images, policy=TopK(1))
    answer = answer_to(client, images, policy=TopK(1), gate=prefer(0, 0, 1, 0))
    assert counts(answer.dispatched.arrived_TE) == [0, 0, 64, 0]
    other = RayleighFading(4, simulated_links(manifest.radio, 4).radio, seed=77).at(0)
    elsewhere = answer_to(client, images, policy=TopK(1), links=other)
    assert not np.array_equal(elsewhere.snr_db_TE, usual.snr_db_TE)
    again = answer_to(client, images, policy=TopK(1))
    np.testing.assert_array_equal(again.snr_db_TE, usual.snr_db_TE)
    np.testing.assert_array_equal(again.output_T, usual.output_T)


def test_an_answer_tells_how_much_of_the_score_was_reached(
    client: MeshClient, images: NDArray[np.uint8]
) -> None:
    answer = answer_to(client, images, policy=TopK(2))
    np.testing.assert_array_equal(answer.reached_T, 1.0)
    assert not answer.degraded_T.any()


def test_a_client_whose_folder_is_copied_to_another_box_serves_and_asks_there(
    folders: list[Path], tmp_path: Path, images: NDArray[np.uint8]
) -> None:
    boxes = [Path(shutil.copytree(folder, tmp_path / f"box-{n}")) for n, folder in enumerate(folders)]
    addresses = [free_address() for _ in boxes]
    with node_processes(boxes, addresses), MeshClient(boxes[1], addresses, policy=TopK(2)) as moved:
        moved.wait_for_nodes(4)
        answer = answer_to(moved, images)
    assert answer.dispatched.arrived_TE.sum() == 2 * len(images)
    assert not answer.degraded_T.any()


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
        timeout=100,
        check=False,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "False\n", "")


BAD_SCORES = {
    "too few experts": (np.ones((64, 2)), "shape of scores is (64, 2); expected (T, E) = (64, 4)"),
    "not a number": (np.full((64, 4), np.nan), "scores[0, 0] is nan; expected a finite number"),
    "no array": ("high", "scores is 'str128'; expected an array of real numbers"),
}


@pytest.mark.parametrize("case", BAD_SCORES)
def test_wrong_scores_of_a_gate_are_refused_and_the_gate_is_named(
    client: MeshClient, images: NDArray[np.uint8], case: str
) -> None:
    scores_TE, said = BAD_SCORES[case]

    def own(payload_T: object, snr_db_TE: object) -> object:
        return scores_TE

    with pytest.raises(InvalidInputError) as raised:
        client.predict(images, gate=own)  # type: ignore[arg-type]
    assert str(raised.value) == f"gate own, (T, E) = (64, 4): {said}"
