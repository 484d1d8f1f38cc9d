"""What the carrier sends, and what it makes of peers that answer rubbish."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from airmoe.manifest import Manifest
from airmoe.mesh import MeshClient, Node, open_session
from airmoe.mesh.frame import Frame, encode
from airmoe.mesh.keys import layer_key
from airmoe.scheduling import All, TopK
from tests.mesh.impostor import Impostor, honest, reply_to
from tests.mesh.ports import free_address
from tests.mesh.steering import counts, prefer, wait_until


@pytest.fixture
def impostor(manifest: Manifest, address: str) -> Iterator[Impostor]:
    """Answers honestly for experts 1, 2 and 3."""
    with Impostor(manifest, [1, 2, 3], honest, address) as impostor:
        yield impostor


@pytest.fixture
def client(folders: list[Path], address: str, impostor: Impostor) -> Iterator[MeshClient]:
    with MeshClient(folders[0], [address]) as client:
        client.wait_for_nodes(3)
        yield client


def test_one_request_per_expert_and_batch(
    client: MeshClient, impostor: Impostor, images: NDArray[np.uint8]
) -> None:
    client.policy = All()
    client.predict(images)
    assert sorted(request.expert for request in impostor.requests) == [1, 2, 3]
    assert {request.array.shape for request in impostor.requests} == {(64, 400)}


def test_an_expert_gets_its_own_items_only(
    client: MeshClient, impostor: Impostor, images: NDArray[np.uint8]
) -> None:
    client.policy = TopK(1)
    answer = client.predict(images)
    rows = [0, 0, 0, 0]
    for request in impostor.requests:
        rows[request.expert] += len(request.array)
    assert rows[1:] == counts(answer.dispatched.requested_TE)[1:]
    assert len(impostor.requests) == np.count_nonzero(rows)


def test_the_bytes_counted_are_the_bytes_that_came(
    client: MeshClient, impostor: Impostor, images: NDArray[np.uint8]
) -> None:
    client.policy = TopK(2)
    assert client.predict(images).sent_bytes == sum(impostor.request_bytes)


def test_a_request_says_for_whom_it_is_and_how_long_its_sender_waits(
    client: MeshClient, impostor: Impostor, manifest: Manifest, images: NDArray[np.uint8]
) -> None:
    client.policy = All()
    client.predict(images, deadline_s=4.0)
    client.predict(images, deadline_s=4.0)
    for request in impostor.requests:
        assert (request.model_hash, request.layer) == (manifest.model_hash, manifest.layer)
        assert 1000 < request.remaining_ms <= 2000
        assert not request.is_reply
    assert len({request.request_id for request in impostor.requests}) == 6


def test_what_peers_answer_is_mixed_by_score(client: MeshClient, images: NDArray[np.uint8]) -> None:
    client.policy = All()
    prefer(client, 0.0, 0.5, 0.25, 0.25)
    np.testing.assert_allclose(client.predict(images).probability_TC, np.eye(10)[[0] * 64], atol=1e-6)


def _no_bytes_but_long_sides(request: Frame) -> bytes:
    head = encode(reply_to(request, array=np.empty((0, 0, 0), np.float32)))
    return head[:8] + b"\0" * 4 + b"\xff" * 8 + head[20:]


RUBBISH: dict[str, Callable[[Frame], bytes]] = {
    "nothing": lambda request: b"",
    "text": lambda request: b"HTTP/1.1 200 OK" * 20,
    "truncated": lambda request: honest(request)[:-1],
    "one byte too many": lambda request: honest(request) + b"\0",
    "huge promise": lambda request: honest(request)[:8] + b"\xff" * 8 + honest(request)[16:],
    "no bytes, long sides": _no_bytes_but_long_sides,
    "one row too few": lambda request: encode(reply_to(request, array=np.ones((63, 10), np.float32))),
    "one class too many": lambda request: encode(reply_to(request, array=np.ones((64, 11), np.float32))),
    "flat": lambda request: encode(reply_to(request, array=np.ones(640, np.float32))),
    "NaN": lambda request: encode(reply_to(request, array=np.full((64, 10), np.nan, np.float32))),
    "infinite": lambda request: encode(reply_to(request, array=np.full((64, 10), np.inf, np.float32))),
    "another request's id": lambda request: encode(reply_to(request, request_id=request.request_id ^ 1)),
    "another expert": lambda request: encode(reply_to(request, expert=2)),
    "another model": lambda request: encode(reply_to(request, model_hash="f" * 16)),
    "the request itself": encode,
}


@pytest.fixture(scope="module")
def seed(folders: list[Path]) -> Iterator[str]:
    """The address of a real node of expert 2."""
    address = free_address()
    with Node(folders[2], address):
        yield address


@pytest.mark.parametrize("case", RUBBISH)
def test_a_peer_that_answers_rubbish_is_routed_around(
    folders: list[Path], manifest: Manifest, seed: str, address: str, images: NDArray[np.uint8], case: str
) -> None:
    with (
        Impostor(manifest, [1], RUBBISH[case], address, seed) as impostor,
        MeshClient(folders[0], [seed, address], policy=TopK(1)) as client,
    ):
        client.wait_for_nodes(2)
        prefer(client, 0.1, 0.6, 0.3, 0.0)
        answer = client.predict(images)
    assert len(impostor.requests) == 1
    assert counts(answer.dispatched.arrived_TE) == [0, 0, 64, 0]
    assert counts(answer.dispatched.requested_TE) == [0, 64, 64, 0]
    assert answer.dispatched.rerouted_T.all()
    assert answer.elapsed_s < 0.5, "a bad answer is not waited for"


def test_a_peer_that_never_answers_is_not_asked_again_soon(
    folders: list[Path], manifest: Manifest, seed: str, address: str, images: NDArray[np.uint8]
) -> None:
    with (
        Impostor(manifest, [1], lambda request: None, address, seed) as impostor,
        MeshClient(folders[0], [seed, address], policy=TopK(1)) as client,
    ):
        client.wait_for_nodes(2)
        prefer(client, 0.1, 0.6, 0.3, 0.0)
        for _ in range(3):
            answer = client.predict(images, deadline_s=0.6)
            assert counts(answer.dispatched.arrived_TE) == [0, 0, 64, 0]
        assert answer.elapsed_s < 0.25
    assert len(impostor.requests) == 1


def test_a_silent_expert_that_starts_anew_is_asked_at_once(
    folders: list[Path], manifest: Manifest, seed: str, address: str, images: NDArray[np.uint8]
) -> None:
    with MeshClient(folders[0], [seed], policy=TopK(1)) as client:
        prefer(client, 0.1, 0.6, 0.3, 0.0)
        with Impostor(manifest, [1], lambda request: None, address, seed):
            client.wait_for_nodes(2)
            client.predict(images, deadline_s=0.2)
        wait_until(lambda: client.carrier.liveliness.alive == {2})
        with Node(folders[1], free_address(), [seed]):
            client.wait_for_nodes(2)
            assert counts(client.predict(images).dispatched.arrived_TE) == [0, 64, 0, 0]


def test_tokens_with_odd_names_are_not_experts(folders: list[Path], manifest: Manifest, address: str) -> None:
    key = layer_key(manifest.mesh, manifest.model_hash, manifest.layer)
    odd = ["x", "-1", "4", "1048576", "01", "+1", "1.0", "1_0", "\u0663", "\u00b2", "9" * 5000, "1 "]
    with open_session(address) as session, MeshClient(folders[0], [address]) as client:
        tokens = [session.liveliness().declare_token(f"{key}/{name}") for name in [*odd, "2"]]
        client.wait_for_nodes()
        assert client.carrier.liveliness.alive == {2}
        del tokens


def test_an_odd_token_that_goes_takes_no_expert_with_it(
    folders: list[Path], manifest: Manifest, address: str
) -> None:
    key = layer_key(manifest.mesh, manifest.model_hash, manifest.layer)
    with open_session(address) as session, MeshClient(folders[0], [address]) as client:
        tokens = [session.liveliness().declare_token(f"{key}/{name}") for name in ("2", "02")]
        client.wait_for_nodes()
        tokens.pop().undeclare()
        tokens.append(session.liveliness().declare_token(f"{key}/3"))
        client.wait_for_nodes(2)
        assert client.carrier.liveliness.alive == {2, 3}
        del tokens
