"""What a client sends a scheduler, and what it makes of schedulers that answer rubbish."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from airmoe.manifest import Manifest
from airmoe.mesh import MeshClient
from airmoe.mesh.frame import Frame, encode
from airmoe.scheduling import Jesa
from tests.mesh.impostor import Impostor, reply_to
from tests.mesh.ports import free_address
from tests.mesh.slot_asker import BITS, EXPERTS, crc_halves
from tests.mesh.steering import decided_by, warnings_of

JESA, ALONE = "jesa:0.5:2", "des:0.5:2"
TOLD_AT_ONCE_S = 0.5
"""Longer than any answer takes here, shorter than any wait for a deadline."""

TABLE = 1 + 2
"""The first row of the table of subcarriers in a reply to two items."""


def changed(request: Frame, change: Callable[[NDArray[np.float32]], Any], **fields: Any) -> bytes:
    """A reply that gives two items of node 0 to its own expert, after a change of its array."""
    array = np.zeros((TABLE + EXPERTS, 1 + EXPERTS), np.float32)
    array[0, :2] = crc_halves(JESA)
    array[1:TABLE, :2] = 1
    array[TABLE:, 1:] = -1
    array[TABLE, 2:] = 5, 6, 7
    replaced = change(array)
    return encode(reply_to(request, array=array if replaced is None else replaced, **fields))


def put(row: int, column: int, value: float) -> Callable[[NDArray[np.float32]], None]:
    def change(array: NDArray[np.float32]) -> None:
        array[row, column] = value

    return change


def as_it_is(array: NDArray[np.float32]) -> None:
    pass


RUBBISH: dict[str, tuple[Callable[[Frame], bytes | None], str]] = {
    "nothing": (lambda request: b"", "bad reply: the frame has 0 bytes"),
    "text": (lambda request: b"HTTP/1.1 200 OK" * 20, "bad reply: the frame begins with"),
    "truncated": (lambda request: changed(request, as_it_is)[:-1], "bad reply: the frame's body has"),
    "the request itself": (encode, "it answers another request"),
    "another request's id": (
        lambda request: changed(request, as_it_is, request_id=request.request_id ^ 1),
        "it answers another request",
    ),
    "another source": (lambda request: changed(request, as_it_is, expert=1), "it answers another request"),
    "another model": (lambda request: changed(request, as_it_is, model_hash="f" * 16), "another request"),
    "another layer": (lambda request: changed(request, as_it_is, layer=2), "another request"),
    "probabilities": (lambda request: encode(reply_to(request)), "has shape (3, 10); expected (7, 5)"),
    "an item too few": (lambda request: changed(request, lambda array: array[1:]), "has shape (6, 5)"),
    "flat": (lambda request: changed(request, lambda array: array.ravel()), "has shape (35,)"),
    "another policy": (lambda request: changed(request, put(0, 1, 1)), "the policies differ"),
    "half an expert": (lambda request: changed(request, put(1, 1, 0.5)), "values other than 0 and 1"),
    "NaN": (lambda request: changed(request, put(1, 1, np.nan)), "values other than 0 and 1"),
    "half feasible": (lambda request: changed(request, put(2, 0, 2)), "values other than 0 and 1"),
    "an expert out of reach": (lambda request: changed(request, put(1, 2, 1)), "cannot be reached"),
    "half a subcarrier": (lambda request: changed(request, put(TABLE, 2, 5.5)), "no whole numbers"),
    "no number": (lambda request: changed(request, put(TABLE, 2, np.nan)), "no whole numbers"),
    "infinite": (lambda request: changed(request, put(TABLE, 2, np.inf)), "no whole numbers"),
    "beyond float32": (lambda request: changed(request, put(TABLE, 2, 2**24)), "no whole numbers"),
    "no such subcarrier": (lambda request: changed(request, put(TABLE, 2, 128)), "expected -1 to 127"),
    "negative": (lambda request: changed(request, put(TABLE, 2, -2)), "expected -1 to 127"),
    "shared by two links": (
        lambda request: changed(request, put(TABLE + 2, 1, 6)),
        "subcarrier 6 of the slot serves 2 links",
    ),
}


@pytest.fixture(scope="module")
def told(manifest: Manifest) -> Iterator[Impostor]:
    """A scheduler that answers what its ``answer`` says."""
    with Impostor(manifest, [], lambda request: None, free_address(), schedulers=[2]) as impostor:
        yield impostor


@pytest.fixture(scope="module")
def deceived(folders: list[Path], told: Impostor) -> Iterator[MeshClient]:
    """Client 0, which knows no other expert and no other scheduler."""
    with MeshClient(folders[0], [told.address], policy=Jesa()) as client:
        assert client.schedulers.liveliness.wait(1, 5)
        yield client


def test_a_well_formed_reply_is_followed(
    deceived: MeshClient, told: Impostor, images: NDArray[np.uint8]
) -> None:
    told.answer = lambda request: changed(request, as_it_is)
    assert decided_by(deceived, images[:2]) == JESA


@pytest.mark.parametrize("case", RUBBISH)
def test_a_scheduler_that_answers_rubbish_is_done_without(
    deceived: MeshClient,
    told: Impostor,
    images: NDArray[np.uint8],
    caplog: pytest.LogCaptureFixture,
    case: str,
) -> None:
    told.answer = lambda request: changed(request, as_it_is)
    assert decided_by(deceived, images[:2]) == JESA
    told.answer, reason = RUBBISH[case]
    answer = deceived.predict(images[:2])
    assert answer.dispatched.decided_by == ALONE
    assert answer.elapsed_s < TOLD_AT_ONCE_S, "a bad answer is not waited for"
    (warning,) = warnings_of(caplog)
    assert reason in warning


def test_a_request_says_for_whom_it_is_and_how_long_its_sender_waits(
    deceived: MeshClient, told: Impostor, manifest: Manifest, images: NDArray[np.uint8]
) -> None:
    told.answer = lambda request: changed(request, as_it_is)
    answer = deceived.predict(images[:2], deadline_s=4.0)
    request = told.requests[-1]
    assert (request.model_hash, request.layer, request.expert) == (manifest.model_hash, 1, 0)
    assert 1000 < request.remaining_ms <= 2000
    assert not request.is_reply
    expected = np.zeros((3, 9), np.float32)
    expected[0, :2] = crc_halves(JESA)
    expected[1:, 0] = BITS
    expected[1:, 1:5] = answer.scores_TE
    expected[1:, 5] = 1  # nobody else's expert is known
    np.testing.assert_array_equal(request.array, expected)


def test_a_scheduler_that_never_answers_is_not_asked_again_soon(
    folders: list[Path], manifest: Manifest, address: str, images: NDArray[np.uint8]
) -> None:
    with (
        Impostor(manifest, [], lambda request: None, address, schedulers=[2]) as impostor,
        MeshClient(folders[0], [address], policy=Jesa()) as client,
    ):
        assert client.schedulers.liveliness.wait(1, 5)
        for _ in range(3):
            answer = client.predict(images, deadline_s=0.6)
            assert answer.dispatched.decided_by == ALONE
        assert answer.elapsed_s < 0.25
    assert len(impostor.requests) == 1


def test_tokens_with_odd_names_are_no_schedulers(
    folders: list[Path], manifest: Manifest, address: str
) -> None:
    with (
        Impostor(manifest, [], encode, address, schedulers=[4, "x", "-1", "01", "9" * 5000, 3]),  # type: ignore[list-item]
        MeshClient(folders[0], [address]) as client,
    ):
        assert client.schedulers.liveliness.wait(1, 5)
        assert client.schedulers.liveliness.alive == {3}
