"""A node goes on with a new certificate or a larger roster, and whoever asks does not notice."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from airmoe.errors import AddressError, IdentityError
from airmoe.mesh import Answer, MeshClient, Node, renewal
from airmoe.mesh import session as sessions
from airmoe.mesh.identity import ROSTER
from airmoe.mesh.issuing import remove, renew
from airmoe.mesh.presence import Presence
from airmoe.mesh.roster import Member, Roster, read_roster, write_roster
from airmoe.mesh.roster_push import push_roster
from airmoe.runfolder import client_folders
from tests.mesh.identities import IssuedRun, dated, issued_run, raw_session, write_pair
from tests.mesh.steering import alive, answer_to, prefer, wait_until

IMAGE = np.zeros((1, 1, 32, 32), np.uint8)


@pytest.fixture
def run(run_folder: Path, tmp_path: Path) -> IssuedRun:
    return issued_run(run_folder, tmp_path / "issued")


@contextmanager
def asking(client: MeshClient) -> Iterator[list[Answer]]:
    """Have a client ask expert 1 again and again, until the block ends."""
    answers, ended = list[Answer](), threading.Event()

    def ask() -> None:
        while not ended.is_set():
            answers.append(answer_to(client, IMAGE, gate=prefer(0.0, 0.9, 0.0, 0.1)))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        ended.set()
        thread.join()


def test_a_renewal_under_load_loses_no_query(run: IssuedRun) -> None:
    with ExitStack() as open_:
        nodes = [
            open_.enter_context(Node(run.folders[node], run.addresses[node], identity=run.identity(node)))
            for node in (1, 3)
        ]
        client = open_.enter_context(MeshClient(run.folders[0], identity=run.identity(0)))
        client.wait_for_nodes(2, 20.0)
        before = run.identity(1).ends
        assert not nodes[0].is_outdated()
        with asking(client) as answers:
            wait_until(lambda: len(answers) > 20, 20.0)
            renew(run.authority, run.folders[1], days=90)
            assert nodes[0].is_outdated()
            asked = len(answers)
            nodes[0].renew()
            assert not nodes[0].is_outdated()
            renewed = len(answers)
            wait_until(lambda: len(answers) > renewed + 20, 20.0)
        assert renewed > asked + 5, "it was asked meanwhile"
        assert all(answer.dispatched.arrived_TE[0, 1] for answer in answers)
        assert not any(answer.degraded_T.any() for answer in answers)
        assert run.identity(1).ends > before
        assert alive(client) == {1, 3}
        with raw_session(run.addresses[1], run.files(3), run.files(3) / "authority.pem") as session:
            wait_until(lambda: bool(list(session.info.links())), 20.0)


def test_a_client_with_the_name_of_another_node_loses_no_query_either(run: IssuedRun) -> None:
    with ExitStack() as open_:
        first, _ = (
            open_.enter_context(Node(run.folders[node], run.addresses[node], identity=run.identity(node)))
            for node in (1, 3)
        )
        client = open_.enter_context(MeshClient(run.folders[3], identity=run.identity(3)))
        client.wait_for_nodes(2, 20.0)
        with asking(client) as answers:
            wait_until(lambda: len(answers) > 20, 20.0)
            renew(run.authority, run.folders[1], days=90)
            first.renew()
            renewed = len(answers)
            wait_until(lambda: len(answers) > renewed + 20, 20.0)
        assert not any(answer.degraded_T.any() for answer in answers)


def test_what_a_roster_adds_holds_once_a_node_is_renewed(run: IssuedRun) -> None:
    roster = run.identity(1).roster
    new = Member(node=9, addresses=[], serves=[])
    larger = run.authority.sign(Roster(mesh=roster.mesh, number=2, members=[*roster.members, new]))
    pair = write_pair(run.folder.parent / "pair", *run.authority.issue(9))

    def is_linked() -> bool:
        with raw_session(run.addresses[1], pair, run.files(1) / "authority.pem") as session:
            try:
                wait_until(lambda: bool(seen(session)), 1.5)
            except AssertionError:
                return False
            return True

    def seen(session: object) -> list[object]:
        found = session.liveliness().get("**", timeout=0.5)  # type: ignore[attr-defined]
        return [reply for reply in found if reply.ok is not None]

    with Node(run.folders[1], run.addresses[1], identity=run.identity(1)) as node:
        assert not is_linked()
        write_roster(run.files(1) / "roster.json", larger)
        assert node.is_outdated()
        node.renew()
        assert is_linked()


def test_a_certificate_that_is_not_right_is_told_and_changes_nothing(
    run: IssuedRun, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        Node(run.folders[1], run.addresses[1], identity=run.identity(1)) as node,
        MeshClient(run.folders[0], identity=run.identity(0)) as client,
    ):
        client.wait_for_nodes(1, 20.0)
        write_pair(run.files(1), *dated(run.authority, "node-1", -7200, -3600))
        assert not node.is_outdated()
        assert not node.is_outdated()
        told = [line for line in caplog.messages if "is not taken" in line]
        assert len(told) == 1
        assert "node.pem held until" in told[0]
        with pytest.raises(IdentityError, match="held until"):
            node.renew()
        answer = answer_to(client, IMAGE, gate=prefer(0.0, 0.9, 0.0, 0.1))
        assert not answer.degraded_T.any()


def test_a_node_without_identity_has_none_to_renew(run_folder: Path, address: str) -> None:
    with Node(client_folders(run_folder)[1], address) as node:
        assert not node.is_outdated()
        with pytest.raises(IdentityError, match="has no identity"):
            node.renew()


def test_a_roster_that_is_older_than_the_one_of_now_does_not_come_back(
    run: IssuedRun, caplog: pytest.LogCaptureFixture
) -> None:
    """It may lie there because the newer one could not be stored, or from a backup."""
    older = read_roster(run.files(1) / ROSTER)
    with Node(run.folders[1], run.addresses[1], identity=run.identity(1)) as node:
        remove(run.authority, 2)
        push_roster(run.identity(1), run.authority.roster())
        wait_until(lambda: node.condition().roster == 2, 20.0)
        write_roster(run.files(1) / ROSTER, older)
        renew(run.authority, run.folders[1], days=90)
        assert node.is_outdated()
        node.renew()
        assert node.condition().roster == 2
        assert "roster 2 goes on to hold" in caplog.text
        assert run.identity(1).roster.number == 2


def test_a_node_whose_address_is_taken_meanwhile_serves_on_and_goes_back_later(
    run: IssuedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewal, "AGAIN_S", 0.0)
    is_taken, refuse_used = True, sessions._refuse_used

    def taken(address: str, anywhere: bool) -> None:
        if is_taken and address == run.addresses[1]:
            raise AddressError(f"cannot listen on {address}: Address already in use")
        refuse_used(address, anywhere)

    with ExitStack() as open_:
        node = open_.enter_context(Node(run.folders[1], run.addresses[1], identity=run.identity(1)))
        client = open_.enter_context(MeshClient(run.folders[0], identity=run.identity(0)))
        client.wait_for_nodes(1, 20.0)
        monkeypatch.setattr(sessions, "_refuse_used", taken)
        with pytest.raises(AddressError, match="already in use"):
            node.renew()
        assert not answer_to(client, IMAGE, gate=prefer(0.0, 0.9, 0.0, 0.1)).degraded_T.any()
        assert node.is_outdated()
        is_taken = False
        node.renew()
        assert not node.is_outdated()
        assert not answer_to(client, IMAGE, gate=prefer(0.0, 0.9, 0.0, 0.1)).degraded_T.any()


def test_a_name_that_cannot_be_found_is_no_end_of_the_node() -> None:
    with pytest.raises(AddressError, match=r"cannot listen beside no-such-host\.invalid:7447"):
        renewal._beside("no-such-host.invalid:7447")


def test_a_renewal_after_all_is_answered_says_nothing_of_requests(
    run: IssuedRun, caplog: pytest.LogCaptureFixture
) -> None:
    with ExitStack() as open_:
        node = open_.enter_context(Node(run.folders[1], run.addresses[1], identity=run.identity(1)))
        client = open_.enter_context(MeshClient(run.folders[0], identity=run.identity(0)))
        client.wait_for_nodes(1, 20.0)
        answer_to(client, IMAGE, gate=prefer(0.0, 0.9, 0.0, 0.1))
        node.renew()
        assert "not answered" not in caplog.text


def test_a_renewal_waits_for_nobody_once_the_node_is_to_leave(
    run: IssuedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewal, "LINKING_S", 1e6)
    monkeypatch.setattr(renewal, "FOLLOWING_S", 1e6)
    with Node(run.folders[1], run.addresses[1], identity=run.identity(1)) as node:
        monkeypatch.setattr(Presence, "linked", lambda presence: {str(id(presence)): "node-3"})
        node.leave_soon()
        node.renew()
