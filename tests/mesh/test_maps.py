"""Payloads that are maps, through either topology, to experts that take maps."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import zenoh
from numpy.typing import NDArray

from airmoe.manifest import read_manifest, write_manifest
from airmoe.mesh import MeshClient, Node, open_session
from airmoe.mesh.frame import Frame, decode, encode
from airmoe.mesh.keys import expert_key
from airmoe.runfolder import client_folders
from airmoe.scheduling import All, TopK
from tests.mesh.exported import export_maps, map_model
from tests.mesh.ports import free_address

if TYPE_CHECKING:
    from airmoe.nn import MixtureOfExperts

torch = pytest.importorskip("torch")

VALUES = 3 * 5 * 5
HEADER_BYTES = 58
"""8 before the shape, 4 for each of four dimensions, 34 behind it."""


@pytest.fixture(scope="module")
def model() -> "MixtureOfExperts":
    """With a gate that sees SNR."""
    return map_model()


@pytest.fixture(scope="module")
def with_server(tmp_path_factory: pytest.TempPathFactory, model: "MixtureOfExperts") -> Path:
    folder = tmp_path_factory.mktemp("maps") / "run"
    export_maps(folder, model, server=True)
    return folder


@pytest.fixture(scope="module", params=["networked", "server"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, with_server: Path) -> Path:
    """The run, or the same networks without a server: every client has all three."""
    if request.param == "server":
        return with_server
    copy = tmp_path_factory.mktemp("networked") / "run"
    shutil.copytree(with_server, copy)
    shared = read_manifest(copy / "clients" / "server").sha256
    shutil.rmtree(copy / "clients" / "server")
    for folder in client_folders(copy):
        manifest = read_manifest(folder)
        write_manifest(folder, manifest.model_copy(update={"sha256": manifest.sha256 | shared}))
    return copy


@pytest.fixture(scope="module")
def address(run: Path) -> Iterator[str]:
    """Of one of the two nodes."""
    folders, address = client_folders(run), free_address()
    with Node(folders[1], address), Node(folders[0], free_address(), [address]):
        yield address


@pytest.fixture(scope="module")
def grey() -> NDArray[np.float32]:
    return np.random.default_rng(2).random((40, 1, 20, 20), np.float32)


def asker_of(run: Path) -> Path:
    """Whoever asks: the server, or the first client where there is none."""
    server = run / "clients" / "server"
    return server if server.exists() else client_folders(run)[0]


@pytest.mark.parametrize("k", [1, 2])
def test_the_mesh_answers_as_the_mixture_does_in_one_process(
    run: Path, address: str, model: "MixtureOfExperts", grey: NDArray[np.float32], k: int
) -> None:
    from airmoe.nn import IdealRadioCarrier

    with MeshClient(asker_of(run), [address], policy=TopK(k)) as client:
        client.wait_for_nodes(2)
        answer = client.predict(grey)
    model.policy, model.carrier = TopK(k), IdealRadioCarrier(client.links)
    with torch.no_grad():
        expected = model(torch.from_numpy(grey), np.full(len(grey), client.manifest.client))
    np.testing.assert_allclose(answer.probability_TC, expected.y_TC.numpy(), atol=1e-5, rtol=0)
    np.testing.assert_allclose(answer.scores_TE, expected.scores_TE.numpy(), atol=1e-5, rtol=0)
    np.testing.assert_allclose(answer.dispatched.energy_j_T, expected.dispatched.energy_j_T, rtol=1e-12)
    assert answer.dispatched.requested_TE[:, 1].any(), "maps did travel"


def test_a_map_travels_whole(run: Path, address: str, grey: NDArray[np.float32]) -> None:
    with MeshClient(asker_of(run), [address], policy=All()) as client:
        client.wait_for_nodes(2)
        answer = client.predict(grey)
    remote = 2 if client.manifest.expert is None else 1
    assert answer.sent_bytes == remote * (len(grey) * VALUES * 4 + HEADER_BYTES)


def test_noise_is_scaled_to_the_whole_map(
    run: Path, address: str, model: "MixtureOfExperts", grey: NDArray[np.float32]
) -> None:
    answers = []
    for transmission in ("ideal", "analog"):
        with MeshClient(asker_of(run), [address], policy=All(), transmission=transmission) as client:
            client.wait_for_nodes(2)
            answers.append(client.predict(grey))
    assert np.abs(answers[0].probability_TC - answers[1].probability_TC).max() > 1e-3
    uses = round(VALUES / 2 + 32)
    remote = 2 if client.manifest.expert is None else 1
    np.testing.assert_allclose(answers[1].dispatched.energy_j_T, remote * uses * 1e-2 / 1e6)


SHAPES = [(2, 75), (2, 3, 5), (2, 3, 5, 6), (2, 5, 5, 3), (3, 5, 5), ()]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_payload_of_another_shape_is_refused_naming_both(
    run: Path, address: str, shape: tuple[int, ...]
) -> None:
    manifest = read_manifest(client_folders(run)[1])
    key = expert_key(manifest.mesh, manifest.model_hash, manifest.layer, 1)
    request = Frame(np.zeros(shape, np.float32), 7, manifest.model_hash, manifest.layer, 1, 5000)
    with ExitStack() as open_:
        session = open_.enter_context(open_session(connect=[address]))
        _wait_for_token(session, key)
        (reply,) = session.get(key, payload=encode(request), timeout=10.0)
        assert reply.err is not None
        said = reply.err.payload.to_bytes().decode()
        assert said == f"the request's array has shape {shape}; expected (T, 3, 5, 5) payloads"
        right = Frame(np.zeros((2, 3, 5, 5), np.float32), 8, manifest.model_hash, manifest.layer, 1, 5000)
        (reply,) = session.get(key, payload=encode(right), timeout=10.0)
        assert reply.ok is not None
        assert decode(reply.ok.payload.to_bytes()).array.shape == (2, 4)


def _wait_for_token(session: zenoh.Session, key: str) -> None:
    subscriber = session.liveliness().declare_subscriber(key, history=True)
    subscriber.recv()
    subscriber.undeclare()
