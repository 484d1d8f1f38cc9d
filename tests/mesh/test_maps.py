"""Payloads that are maps, through either topology, to experts that take maps."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import zenoh
from numpy.typing import NDArray

from airmoe.manifest import read_manifest
from airmoe.mesh import MeshClient, Node, open_session, simulated_links
from airmoe.mesh.frame import Frame, Kind, decode, encode
from airmoe.mesh.keys import asked_key, expert_key
from airmoe.runfolder import client_folders
from airmoe.scheduling import All, TopK
from tests.mesh.exported import export_maps, map_model
from tests.mesh.ports import free_address
from tests.mesh.steering import answer_to

if TYPE_CHECKING:
    from airmoe.nn import MixtureOfExperts

torch = pytest.importorskip("torch")

VALUES = 3 * 5 * 5
HEADER_BYTES = 41 + 3 + len("payload") + 4 * 4
"""The frame's own head, and that of an array of four dimensions."""


@pytest.fixture(scope="module")
def model() -> "MixtureOfExperts":
    """With a gate that sees SNR."""
    return map_model()


@pytest.fixture(scope="module", params=["networked", "server"])
def run(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, model: "MixtureOfExperts"
) -> Path:
    """The run, with a server or without: then every client has all three networks."""
    folder = tmp_path_factory.mktemp("maps") / "run"
    export_maps(folder, model, server=request.param == "server")
    return folder


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
        answer = answer_to(client, grey)
    manifest = client.manifest
    radio = IdealRadioCarrier(simulated_links(manifest.radio, manifest.nodes))
    source_T = np.full(len(grey), manifest.node)
    with torch.no_grad():
        expected = model(torch.from_numpy(grey), source_T, policy=TopK(k), carrier=radio)
    np.testing.assert_allclose(answer.probability_TC, expected.y_TC.numpy(), atol=1e-5, rtol=0)
    np.testing.assert_allclose(answer.scores_TE, expected.scores_TE.numpy(), atol=1e-5, rtol=0)
    np.testing.assert_allclose(answer.dispatched.energy_j_T, expected.dispatched.energy_j_T, rtol=1e-12)
    assert answer.dispatched.requested_TE[:, 1].any(), "maps did travel"


def test_a_map_travels_whole(run: Path, address: str, grey: NDArray[np.float32]) -> None:
    with MeshClient(asker_of(run), [address], policy=All()) as client:
        client.wait_for_nodes(2)
        answer = answer_to(client, grey)
    remote = 2 if client.is_server else 1
    assert answer.sent_bytes == remote * (len(grey) * VALUES * 4 + HEADER_BYTES)


def test_noise_is_scaled_to_the_whole_map(
    run: Path, address: str, model: "MixtureOfExperts", grey: NDArray[np.float32]
) -> None:
    answers = []
    for transmission in ("ideal", "analog"):
        with MeshClient(asker_of(run), [address], policy=All(), transmission=transmission) as client:
            client.wait_for_nodes(2)
            answers.append(answer_to(client, grey))
    assert np.abs(answers[0].probability_TC - answers[1].probability_TC).max() > 1e-3
    uses = round(VALUES / 2 + 32)
    remote = 2 if client.is_server else 1
    np.testing.assert_allclose(answers[1].dispatched.energy_j_T, remote * uses * 1e-2 / 1e6)


SHAPES = [(2, 75), (2, 3, 5), (2, 3, 5, 6), (2, 5, 5, 3), (3, 5, 5), ()]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_payload_of_another_shape_is_refused_naming_both(
    run: Path, address: str, shape: tuple[int, ...]
) -> None:
    manifest = read_manifest(client_folders(run)[1])
    served = expert_key(manifest.mesh, manifest.model_hash, 1, 1, 1)
    key = asked_key(served, "tester")

    def request(shape: tuple[int, ...]) -> bytes:
        arrays = {"payload": np.zeros(shape, np.float32)}
        return encode(
            Frame(
                Kind.PAYLOADS,
                arrays,
                7,
                manifest.model_hash,
                1,
                1,
                60_000,
                expert_hash=manifest.layer(1).hashes[1],
            )
        )

    with ExitStack() as open_:
        session = open_.enter_context(open_session(connect=[address]))
        _wait_for_token(session, served)
        (reply,) = session.get(key, payload=request(shape), timeout=60.0)
        assert reply.err is not None
        said = reply.err.payload.to_bytes().decode()
        assert said == f"array 'payload' has shape {shape}; expected (T, 3, 5, 5)"
        (reply,) = session.get(key, payload=request((2, 3, 5, 5)), timeout=60.0)
        assert reply.ok is not None
        assert decode(reply.ok.payload.to_bytes()).arrays["output"].shape == (2, 4)


def _wait_for_token(session: zenoh.Session, key: str) -> None:
    subscriber = session.liveliness().declare_subscriber(key, history=True)
    subscriber.recv()
    subscriber.undeclare()
