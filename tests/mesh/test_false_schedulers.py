"""What a client sends a scheduler, and what it makes of schedulers that answer rubbish."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from airmoe.manifest import Manifest
from airmoe.mesh import MeshClient
from airmoe.mesh.frame import Frame, Kind, encode
from airmoe.scheduling import Jesa
from tests.mesh.impostor import Impostor, reply_to
from tests.mesh.ports import free_address
from tests.mesh.slot_asker import BITS, EXPERTS
from tests.mesh.steering import decided_by, schedulers, trusted_schedulers, warnings_of

JESA, ALONE = "jesa:0.5:2", "des:0.5:2"
HOURS_S = 3600.0
"""Whoever waited for this deadline would not end in a test's time."""


def reply(request: Frame, fields: dict[str, Any] | None = None, **changes: Any) -> bytes:
    """A reply that gives two items of node 0 to its own expert, with some arrays and fields changed."""
    mask_TE = np.zeros((2, EXPERTS), np.bool_)
    mask_TE[:, 0] = True
    subcarrier_NN = np.full((EXPERTS, EXPERTS), -1, np.int32)
    subcarrier_NN[0, 1:] = 5, 6, 7
    arrays = {
        "policy": np.frombuffer(JESA.encode(), np.uint8),
        "source": np.int32(0),
        "mask": mask_TE,
        "feasible": np.ones(2, np.bool_),
        "subcarrier": subcarrier_NN,
    }
    arrays = {name: np.asarray(array) for name, array in (arrays | changes).items() if array is not None}
    return encode(reply_to(request, arrays=arrays, **({"kind": Kind.SCHEDULE} | (fields or {}))))


def table(row: int, column: int, value: int) -> NDArray[np.int32]:
    subcarrier_NN = np.full((EXPERTS, EXPERTS), -1, np.int32)
    subcarrier_NN[0, 1:] = 5, 6, 7
    subcarrier_NN[row, column] = value
    return subcarrier_NN


OUT_OF_REACH = np.eye(2, EXPERTS, 1, dtype=np.bool_)
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an item too few": (
        {"mask": np.ones((1, EXPERTS), np.bool_)},
        "'mask' has shape (1, 4); expected (2, 4)",
    ),
    "an item too many": ({"feasible": np.ones(3, np.bool_)}, "'feasible' has shape (3,); expected (2,)"),
    "flat": ({"mask": np.ones(8, np.bool_)}, "'mask' has shape (8,); expected (2, 4)"),
    "no mask": ({"mask": None}, "no array 'mask'; it has policy, source, feasible, subcarrier"),
    "half an expert": ({"mask": np.full((2, EXPERTS), 0.5)}, "'mask' is float64; expected bool"),
    "another policy": ({"policy": np.frombuffer(b"jesa:1:2", np.uint8)}, "there jesa:1:2"),
    "no policy": ({"policy": np.zeros(0, np.uint8)}, "the policies differ"),
    "another source": ({"source": np.int32(1)}, "it is for source 1; expected 0"),
    "no such source": ({"source": np.int32(-1)}, "the source is node -1; expected less than 4"),
    "two sources": ({"source": np.zeros(2, np.int32)}, "'source' has shape (2,); expected ()"),
    "an expert out of reach": ({"mask": OUT_OF_REACH}, "cannot be reached"),
    "half a subcarrier": ({"subcarrier": table(0, 1, 5) / 2}, "'subcarrier' is float64; expected int32"),
    "no such subcarrier": ({"subcarrier": table(0, 1, 128)}, "expected -1 to 127"),
    "negative": ({"subcarrier": table(0, 1, -2)}, "expected -1 to 127"),
    "a node too few": ({"subcarrier": np.full((3, 3), -1, np.int32)}, "has shape (3, 3); expected (4, 4)"),
    "shared by two links": ({"subcarrier": table(2, 1, 6)}, "subcarrier 6 of the slot serves 2 links"),
}
RUBBISH: dict[str, tuple[Callable[[Frame], bytes | None], str]] = {
    "nothing": (lambda request: b"", "bad reply: the frame has 0 bytes"),
    "text": (lambda request: b"HTTP/1.1 200 OK" * 20, "bad reply: the frame begins with"),
    "truncated": (lambda request: reply(request)[:-1], "bad reply: the frame has"),
    "the request itself": (encode, "it answers another request"),
    "another request's id": (
        lambda request: reply(request, {"request_id": request.request_id ^ 1}),
        "it answers another request",
    ),
    "another model": (lambda request: reply(request, {"model_hash": "f" * 16}), "another request"),
    "another layer": (lambda request: reply(request, {"layer": 2}), "another request"),
    "outputs": (lambda request: encode(reply_to(request, np.ones((2, 10), np.float32))), "another request"),
    **{
        name: (lambda request, changes=changes: reply(request, **changes), said)  # type: ignore[misc]
        for name, (changes, said) in WRONG.items()
    },
}


@pytest.fixture(scope="module")
def told(manifest: Manifest) -> Iterator[Impostor]:
    """A scheduler that answers what its ``answer`` says."""
    with Impostor(manifest, [], lambda request: None, free_address(), schedulers=[2]) as impostor:
        yield impostor


@pytest.fixture(scope="module")
def deceived_client(folders: list[Path], told: Impostor) -> Iterator[MeshClient]:
    """Client 0, which knows no other expert and no other scheduler."""
    with MeshClient(folders[0], [told.address], policy=Jesa()) as client:
        assert client.schedulers.liveliness.wait_until(bool, 5)
        yield client


@pytest.fixture
def deceived(deceived_client: MeshClient) -> MeshClient:
    """The same, without suspicions."""
    for node in schedulers(deceived_client):
        deceived_client.schedulers.peers.back(node)
    return deceived_client


def test_a_well_formed_reply_is_followed(
    deceived: MeshClient, told: Impostor, images: NDArray[np.uint8]
) -> None:
    told.answer = reply
    assert decided_by(deceived, images[:2]) == JESA


@pytest.mark.parametrize("case", RUBBISH)
def test_a_scheduler_that_answers_rubbish_is_done_without_at_once(
    deceived: MeshClient,
    told: Impostor,
    images: NDArray[np.uint8],
    caplog: pytest.LogCaptureFixture,
    case: str,
) -> None:
    told.answer = reply
    assert decided_by(deceived, images[:2]) == JESA
    told.answer, reason = RUBBISH[case]
    answer = deceived.predict(images[:2], deadline_s=HOURS_S)
    assert answer.dispatched.decided_by == ALONE
    (warning,) = warnings_of(caplog)
    assert reason in warning


def test_a_request_says_for_whom_it_is_and_how_long_its_sender_waits(
    deceived: MeshClient, told: Impostor, manifest: Manifest, images: NDArray[np.uint8]
) -> None:
    told.answer = reply
    answer = deceived.predict(images[:2], deadline_s=40.0)
    request = told.requests[-1]
    assert (request.model_hash, request.layer, request.expert) == (manifest.model_hash, 1, None)
    assert 0 < request.remaining_ms <= 20_000
    assert request.kind == Kind.ITEMS
    arrays = request.arrays
    assert list(arrays) == ["policy", "source", "node", "bits", "scores", "reachable"]
    assert arrays["policy"].tobytes() == JESA.encode()
    assert (arrays["source"], arrays["source"].dtype) == (0, np.int32)
    np.testing.assert_array_equal(arrays["node"], [0, 1, 2, 3])
    np.testing.assert_array_equal(arrays["bits"], [BITS, BITS])
    np.testing.assert_array_equal(arrays["scores"], answer.scores_TE)
    assert arrays["scores"].dtype == np.float64
    np.testing.assert_array_equal(arrays["reachable"], [[True, False, False, False]] * 2)


def test_a_scheduler_that_never_answers_is_not_asked_again_soon(
    folders: list[Path], manifest: Manifest, address: str, images: NDArray[np.uint8]
) -> None:
    with (
        Impostor(manifest, [], lambda request: None, address, schedulers=[2]) as impostor,
        MeshClient(folders[0], [address], policy=Jesa()) as client,
    ):
        assert client.schedulers.liveliness.wait_until(bool, 5)
        answer = client.predict(images, deadline_s=2.0)
        assert answer.dispatched.decided_by == ALONE
        assert client.schedulers.liveliness.alive == {2}
        assert trusted_schedulers(client) == set()
    assert len(impostor.requests) == 1


def test_tokens_with_odd_names_are_no_schedulers(
    folders: list[Path], manifest: Manifest, address: str
) -> None:
    with (
        Impostor(manifest, [], encode, address, schedulers=[4, "x", "-1", "01", "9" * 5000, 3]),  # type: ignore[list-item]
        MeshClient(folders[0], [address]) as client,
    ):
        assert client.schedulers.liveliness.wait_until(bool, 5)
        assert client.schedulers.liveliness.alive == {3}
