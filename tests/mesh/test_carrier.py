"""What the carrier sends, and what it makes of peers that answer rubbish."""

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zenoh
from numpy.typing import NDArray

from airmoe.manifest import Manifest
from airmoe.mesh import MeshClient, Node, open_session
from airmoe.mesh.frame import Frame, Kind, encode
from airmoe.mesh.keys import ANYBODY, Replica, asked_key, expert_key, layer_key
from airmoe.mesh.peers import HEDGE_S
from airmoe.mesh.queries import refuse, serve
from airmoe.scheduling import All, TopK
from tests.mesh.impostor import Impostor, honest, reply_to
from tests.mesh.ports import free_address
from tests.mesh.steering import alive, answer_to, counts, prefer, trusted, wait_until

HOURS_S = 3600.0
"""Whoever waited for this deadline would not end in a test's time."""


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
    answer_to(client, images, policy=All())
    assert {request.expert for request in impostor.requests} == {1, 2, 3}
    assert len(impostor.requests) == 3
    assert {request.arrays["payload"].shape for request in impostor.requests} == {(64, 400)}


def test_an_expert_gets_its_own_items_only(
    client: MeshClient, impostor: Impostor, images: NDArray[np.uint8]
) -> None:
    answer = answer_to(client, images, policy=TopK(1))
    rows = [0, 0, 0, 0]
    for request in impostor.requests:
        assert request.expert is not None
        rows[request.expert] += len(request.arrays["payload"])
    assert rows[1:] == counts(answer.dispatched.requested_TE)[1:]
    assert len(impostor.requests) == np.count_nonzero(rows)


def test_the_bytes_counted_are_the_bytes_that_came(
    client: MeshClient, impostor: Impostor, images: NDArray[np.uint8]
) -> None:
    assert answer_to(client, images, policy=TopK(2)).sent_bytes == sum(impostor.request_bytes)


def test_a_request_says_for_whom_it_is_and_how_long_its_sender_waits(
    client: MeshClient, impostor: Impostor, manifest: Manifest, images: NDArray[np.uint8]
) -> None:
    for _ in range(2):
        client.predict(images, policy=All(), deadline_s=40.0)
    for request in impostor.requests:
        assert (request.model_hash, request.layer) == (manifest.model_hash, 1)
        assert 0 < request.remaining_ms <= 20_000
        assert request.kind == Kind.PAYLOADS
    assert len({request.request_id for request in impostor.requests}) == 6


def test_what_peers_answer_is_mixed_by_score(client: MeshClient, images: NDArray[np.uint8]) -> None:
    answer = answer_to(client, images, policy=All(), gate=prefer(0.0, 0.5, 0.25, 0.25))
    np.testing.assert_allclose(answer.probability_TC, np.eye(10)[[0] * 64], atol=1e-6)


def _with_sides(request: Frame, *sides: int) -> bytes:
    """An honest reply that claims an array of other sides."""
    data, at = honest(request), 41 + 3 + len("output")
    return data[:at] + struct.pack("<2I", *sides) + data[at + 8 :]


def giving(output: NDArray[Any]) -> Callable[[Frame], bytes]:
    return lambda request: encode(reply_to(request, output))


RUBBISH: dict[str, Callable[[Frame], bytes]] = {
    "nothing": lambda request: b"",
    "text": lambda request: b"HTTP/1.1 200 OK" * 20,
    "truncated": lambda request: honest(request)[:-1],
    "one byte too many": lambda request: honest(request) + b"\0",
    "huge promise": lambda request: _with_sides(request, 2**32 - 1, 2**32 - 1),
    "no bytes, long sides": giving(np.empty((0, 2**20), np.float32)),
    "one row too few": giving(np.ones((63, 10), np.float32)),
    "one class too many": giving(np.ones((64, 11), np.float32)),
    "flat": giving(np.ones(640, np.float32)),
    "NaN": giving(np.full((64, 10), np.nan, np.float32)),
    "infinite": giving(np.full((64, 10), np.inf, np.float32)),
    "float64": giving(np.ones((64, 10))),
    "another array": lambda request: encode(reply_to(request, arrays={"mask": np.ones((64, 10), np.bool_)})),
    "another request's id": lambda request: encode(reply_to(request, request_id=request.request_id ^ 1)),
    "another expert": lambda request: encode(reply_to(request, expert=2)),
    "another layer": lambda request: encode(reply_to(request, layer=2)),
    "another model": lambda request: encode(reply_to(request, model_hash="f" * 16)),
    "another kind": lambda request: encode(reply_to(request, kind=Kind.SCHEDULE)),
    "the request itself": encode,
}


@pytest.fixture(scope="module")
def seed(folders: list[Path]) -> Iterator[str]:
    """The address of a real node of expert 2."""
    address = free_address()
    with Node(folders[2], address):
        yield address


@pytest.mark.parametrize("case", RUBBISH)
def test_a_peer_that_answers_rubbish_is_routed_around_at_once(
    folders: list[Path], manifest: Manifest, seed: str, address: str, images: NDArray[np.uint8], case: str
) -> None:
    with (
        Impostor(manifest, [1], RUBBISH[case], address, seed) as impostor,
        MeshClient(folders[0], [seed, address], policy=TopK(1)) as client,
    ):
        client.wait_for_nodes(2)
        answer = client.predict(images, gate=prefer(0.1, 0.6, 0.3, 0.0), deadline_s=HOURS_S)
    assert len(impostor.requests) == 1
    assert counts(answer.dispatched.arrived_TE) == [0, 0, 64, 0]
    assert counts(answer.dispatched.requested_TE) == [0, 64, 64, 0]
    assert answer.dispatched.rerouted_T.all()


def test_a_peer_that_never_answers_is_not_asked_again_soon(
    folders: list[Path], manifest: Manifest, seed: str, address: str, images: NDArray[np.uint8]
) -> None:
    with (
        Impostor(manifest, [1], lambda request: None, address, seed) as impostor,
        MeshClient(folders[0], [seed, address], policy=TopK(1), hedge_s=HEDGE_S) as client,
    ):
        client.wait_for_nodes(2)
        likes = prefer(0.1, 0.6, 0.3, 0.0)
        answer = client.predict(images, gate=likes, deadline_s=2.0)
        assert counts(answer.dispatched.arrived_TE) == [0, 0, 64, 0]
        assert 1 not in trusted(client)
        assert Replica(1, 1) in client.layer.liveliness.alive
    assert len(impostor.requests) == 1


def test_a_silent_expert_that_starts_anew_is_asked_at_once(
    folders: list[Path], manifest: Manifest, seed: str, address: str, images: NDArray[np.uint8]
) -> None:
    likes = prefer(0.1, 0.6, 0.3, 0.0)
    with MeshClient(folders[0], [seed], policy=TopK(1), hedge_s=HEDGE_S) as client:
        with Impostor(manifest, [1], lambda request: None, address, seed):
            client.wait_for_nodes(2)
            client.predict(images, gate=likes, deadline_s=0.2)
        wait_until(lambda: alive(client) == {2})
        with Node(folders[1], free_address(), [seed]):
            client.wait_for_nodes(2)
            assert counts(answer_to(client, images, gate=likes).dispatched.arrived_TE) == [
                0,
                64,
                0,
                0,
            ]


def test_a_refusal_under_the_key_of_a_real_node_does_not_displace_its_answer(
    folders: list[Path], manifest: Manifest, seed: str, address: str, images: NDArray[np.uint8]
) -> None:
    place = manifest.mesh, manifest.model_hash, 1
    with open_session(address, [seed]) as session, MeshClient(folders[0], [seed, address]) as client:
        client.wait_for_nodes(1)
        refusing = serve(session, expert_key(*place, 2, 2), lambda query, asker: refuse(query, "no"))
        for _ in range(5):
            answer = answer_to(client, images, gate=prefer(0, 0, 1, 0))
            assert counts(answer.dispatched.arrived_TE) == [0, 0, 64, 0]
        refusing.undeclare()


def test_a_silent_stranger_that_claims_a_key_for_itself_does_not_keep_requests_from_the_real_node(
    folders: list[Path], manifest: Manifest, seed: str, address: str, images: NDArray[np.uint8]
) -> None:
    key = asked_key(expert_key(manifest.mesh, manifest.model_hash, 1, 2, 2), ANYBODY)
    heard: list[zenoh.Query] = []
    hears = zenoh.handlers.Callback(heard.append, indirect=False)
    with open_session(address, [seed]) as session, MeshClient(folders[0], [seed, address]) as client:
        client.wait_for_nodes(1)
        claim = session.declare_queryable(key, hears, complete=True)
        while not heard:
            answer = client.predict(images, gate=prefer(0, 0, 1, 0), deadline_s=2.0)
        assert counts(answer.dispatched.arrived_TE) == [0, 0, 64, 0]
        claim.undeclare()
        for query in heard:
            query.drop()


def test_tokens_with_odd_names_are_not_experts(folders: list[Path], manifest: Manifest, address: str) -> None:
    key = layer_key(manifest.mesh, manifest.model_hash, 1)
    odd = ["x", "-1", "4", "1048576", "01", "+1", "1.0", "1_0", "\u0663", "\u00b2", "9" * 5000, "1 "]
    names = [*odd, *(f"{name}/{name}" for name in odd), "1/2", "2/1", "2/2/2", "scheduler/2", "2/2"]
    with open_session(address) as session, MeshClient(folders[0], [address]) as client:
        tokens = [session.liveliness().declare_token(f"{key}/{name}") for name in names]
        client.wait_for_nodes()
        assert client.layer.liveliness.alive == {(2, 2)}
        del tokens


def test_an_odd_token_that_goes_takes_no_expert_with_it(
    folders: list[Path], manifest: Manifest, address: str
) -> None:
    key = layer_key(manifest.mesh, manifest.model_hash, 1)
    with open_session(address) as session, MeshClient(folders[0], [address]) as client:
        tokens = [session.liveliness().declare_token(f"{key}/{name}") for name in ("2/2", "02/02")]
        client.wait_for_nodes()
        tokens.pop().undeclare()
        tokens.append(session.liveliness().declare_token(f"{key}/3/3"))
        client.wait_for_nodes(2)
        assert alive(client) == {2, 3}
        del tokens
