"""What a node says of itself: counts, what waits, and whether it is well."""

import datetime
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from airmoe.manifest import Manifest
from airmoe.mesh import MeshClient, Node, open_session
from airmoe.mesh.condition import STUCK_S, Condition
from airmoe.mesh.counts import Counts
from airmoe.mesh.keys import asked_key, expert_key
from airmoe.mesh.networks import OnnxNetwork
from tests.mesh.identities import issued_run
from tests.mesh.steering import answer_to, prefer, wait_until

IMAGES = np.zeros((3, 1, 32, 32), np.uint8)
ASK_1 = prefer(0.0, 0.9, 0.0, 0.1)
NOW = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)

WELL = Condition(1, "lab", "ab", Counts().now(), 0, 0, 0, None, None, False, True)


@contextmanager
def node_that_hangs(
    folder: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Node, threading.Event]]:
    """A node whose expert computes until the event is set."""
    goes_on, computes = threading.Event(), OnnxNetwork.__call__

    def hanging(network: OnnxNetwork, *arrays: NDArray[np.float32]) -> NDArray[np.float32]:
        if threading.current_thread().name == "airmoe experts":
            goes_on.wait(60)
        return computes(network, *arrays)

    monkeypatch.setattr(OnnxNetwork, "__call__", hanging)
    with Node(folder, address) as node:
        try:
            yield node, goes_on
        finally:
            goes_on.set()


def test_a_node_counts_what_it_answers_and_refuses(
    folders: list[Path], manifest: Manifest, address: str
) -> None:
    with Node(folders[1], address) as node, MeshClient(folders[0], connect=[address]) as client:
        client.wait_for_nodes(1, 20.0)
        assert node.condition().counted.answered == {}
        answer_to(client, IMAGES, gate=ASK_1)
        answer_to(client, IMAGES[:1], gate=ASK_1)
        key = asked_key(expert_key(manifest.mesh, manifest.model_hash, 1, 1, 1), "tester")
        with open_session(connect=[address]) as session:
            (reply,) = session.get(key, payload=b"garbage", timeout=20.0)
            assert reply.ok is None
            wait_until(lambda: sum(node.condition().counted.answered.values()) == 2, 20.0)
            told = node.condition()
    (asker,) = told.counted.answered
    assert asker.startswith("0-"), "node 0, and its session"
    assert told.counted.items == 4
    assert {why: count for why, count in told.counted.refused.items() if count} == {"wrong": 1}
    assert told.counted.busy_s > 0
    assert told.links == 2
    assert (told.node, told.mesh, told.model_hash) == (1, manifest.mesh, manifest.model_hash)
    assert (told.roster, told.certificate_ends, told.waiting) == (None, None, 0)
    assert told.why_ill(NOW) is None
    assert node.condition().why_idle == "the node is closing"
    assert node.condition().links == 0


def test_a_node_with_an_identity_tells_its_certificate_and_roster(run_folder: Path, tmp_path: Path) -> None:
    run = issued_run(run_folder, tmp_path / "issued")
    identity = run.identity(1)
    with Node(run.folders[1], run.addresses[1], identity=identity) as node:
        told = node.condition()
    assert (told.roster, told.certificate_ends) == (identity.roster.number, identity.ends)
    assert told.why_ill(identity.ends - datetime.timedelta(seconds=1)) is None
    assert "the certificate held until" in str(told.why_ill(identity.ends))
    assert told.why_idle is None, "a restart would not help"


def test_a_node_that_is_stuck_says_so_and_what_waits_behind_it(
    folders: list[Path], address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airmoe.mesh.condition.STUCK_S", 0.2)
    with (
        node_that_hangs(folders[1], address, monkeypatch) as (node, goes_on),
        MeshClient(folders[0], connect=[address]) as client,
    ):
        client.wait_for_nodes(1, 20.0)
        assert node.condition().why_idle is None
        asking = [
            threading.Thread(target=answer_to, args=(client, IMAGES), kwargs={"gate": ASK_1})
            for _ in range(3)
        ]
        for thread in asking:
            thread.start()
        wait_until(lambda: node.condition().why_idle is not None, 20.0)
        wait_until(lambda: node.condition().waiting == 2, 20.0)
        told = node.condition()
        goes_on.set()
        for thread in asking:
            thread.join()
        wait_until(lambda: node.condition().why_idle is None, 20.0)
    assert str(told.why_idle).startswith("one request has been computed for")
    assert told.why_ill(NOW) == told.why_idle
    assert told.waiting_bytes > 2 * IMAGES[:, :, 0, 0].size
    assert told.counted.answered == {}


def test_a_worker_that_has_ended_is_no_worker() -> None:
    assert WELL.why_ill(NOW) is None
    assert replace(WELL, has_worker=False).why_ill(NOW) == "the thread that computes has ended"


def test_a_request_may_be_computed_for_as_long_as_is_said() -> None:
    just = replace(WELL, counted=replace(WELL.counted, at_hand_s=STUCK_S))
    longer = replace(WELL, counted=replace(WELL.counted, at_hand_s=STUCK_S + 1))
    assert just.why_idle is None
    assert longer.why_idle == "one request has been computed for 31 s; expected at most 30 s"
