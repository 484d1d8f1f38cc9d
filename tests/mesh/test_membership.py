"""Rosters while a mesh runs: whoever a newer one leaves out is gone, and everybody else goes on."""

import gc
import json
import logging
import shutil
import time
import weakref
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from airmoe.errors import IdentityError
from airmoe.mesh import MeshClient, Node, open_session, roster_exchange
from airmoe.mesh import roster as rosters
from airmoe.mesh.authority import Authority, passing_authority
from airmoe.mesh.identity import AUTHORITY, ROSTER, read_identity
from airmoe.mesh.issuing import remove
from airmoe.mesh.keys import asked_key, roster_key
from airmoe.mesh.liveliness import Liveliness
from airmoe.mesh.membership import Membership
from airmoe.mesh.roster import Roster, SignedRoster, read_roster
from airmoe.mesh.roster_exchange import RosterExchange
from airmoe.mesh.roster_push import push_roster
from tests.mesh.identities import (
    IssuedRun,
    dated,
    issued_run,
    linked_names,
    raw_session,
    write_pair,
)
from tests.mesh.steering import LONG_S, alive, answer_to, prefer, wait_until
from tests.threads import started_since_now

IMAGE = np.zeros((1, 1, 32, 32), np.uint8)


@pytest.fixture
def run(run_folder: Path, tmp_path: Path) -> IssuedRun:
    return issued_run(run_folder, tmp_path / "issued")


@pytest.fixture
def open_() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def serve(run: IssuedRun, open_: ExitStack, *nodes: int) -> None:
    for node in nodes:
        identity = run.identity(node)
        open_.enter_context(Node(run.folders[node], run.addresses[node], identity=identity))


def client_of(run: IssuedRun, open_: ExitStack, node: int, found: int) -> MeshClient:
    client = open_.enter_context(MeshClient(run.folders[node], identity=run.identity(node)))
    client.wait_for_nodes(found, 20.0)
    return client


def newest(run: IssuedRun) -> SignedRoster:
    signed = run.authority.roster()
    assert signed is not None
    return signed


def signed(authority: Authority, roster: Roster, **changes: object) -> SignedRoster:
    return authority.sign(Roster.model_validate(roster.model_dump() | changes))


def test_a_node_that_a_pushed_roster_leaves_out_is_gone_for_all(
    run: IssuedRun, open_: ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "airmoe.mesh")
    serve(run, open_, 1, 2, 3)
    client = client_of(run, open_, 0, 3)
    assert alive(client) == {1, 2, 3}
    remove(run.authority, 2)
    begin_s = time.monotonic()
    told = push_roster(run.identity(1), newest(run))
    assert told == {0: "not reached", 1: "taken", 3: "taken"}, "a client takes it from the nodes"
    wait_until(lambda: alive(client) == {1, 3}, 20.0)
    print(f"{time.monotonic() - begin_s:.2f} s from the push until it is gone")
    assert "roster 2 in place of 1; node-2 left out" in caplog.text
    wait_until(lambda: "cut off 'node-2' at" in caplog.text, 20.0)
    wait_until(lambda: "its roster may no longer have node-2" in caplog.text, 40.0)
    for node in (0, 1, 3):
        wait_until(lambda node=node: run.identity(node).roster.number == 2, 20.0)  # type: ignore[misc]
        assert read_roster(run.files(node) / ROSTER) == newest(run)
    for gate, degraded in ((prefer(0.0, 0.9, 0.1, 0.0), False), (prefer(0.0, 0.0, 0.9, 0.1), True)):
        answer = answer_to(client, IMAGE, gate=gate)
        assert not answer.dispatched.arrived_TE[0, 2]
        assert answer.degraded_T[0] == degraded


def test_others_lose_no_query_by_a_push(run: IssuedRun, open_: ExitStack) -> None:
    serve(run, open_, 1, 2, 3)
    client = client_of(run, open_, 0, 3)
    remove(run.authority, 2)
    for number in range(40):
        if number == 10:
            push_roster(run.identity(3), newest(run))
        answer = answer_to(client, IMAGE, gate=prefer(0.0, 0.9, 0.0, 0.1))
        assert answer.dispatched.arrived_TE[0, 1]
        assert not answer.degraded_T.any()


def test_whoever_is_out_is_not_served_though_it_dials_again(run: IssuedRun, open_: ExitStack) -> None:
    serve(run, open_, 1, 3)
    remove(run.authority, 2)
    push_roster(run.identity(1), newest(run))
    with raw_session(run.addresses[3], run.files(2), run.files(2) / AUTHORITY) as session:
        end_s = time.monotonic() + 3.0
        while time.monotonic() < end_s:
            replies = session.get(asked_key(run.key(3), "node-2"), payload=b"x", timeout=0.5)
            assert not [reply for reply in replies if reply.ok]
            time.sleep(0.05)


def test_a_node_that_was_off_takes_the_roster_from_the_others(run: IssuedRun, open_: ExitStack) -> None:
    serve(run, open_, 1)
    remove(run.authority, 2)
    told = push_roster(run.identity(1), newest(run), timeout_s=2.0)
    assert told == {0: "not reached", 1: "taken", 3: "not reached"}
    assert run.identity(3).roster.number == 1
    serve(run, open_, 3)
    wait_until(lambda: run.identity(3).roster.number == 2, 20.0)


def test_a_client_takes_the_roster_of_those_it_finds(run: IssuedRun, open_: ExitStack) -> None:
    serve(run, open_, 1)
    remove(run.authority, 2)
    push_roster(run.identity(1), newest(run), timeout_s=2.0)
    client_of(run, open_, 0, 1)
    wait_until(lambda: run.identity(0).roster.number == 2, 20.0)


def test_a_push_may_be_repeated(run: IssuedRun, open_: ExitStack) -> None:
    serve(run, open_, 1)
    remove(run.authority, 2)
    push_roster(run.identity(1), newest(run), timeout_s=1.0)
    assert push_roster(run.identity(1), newest(run), timeout_s=1.0)[1] == "known already"


def test_an_older_roster_is_not_pushed(run: IssuedRun) -> None:
    older = newest(run)
    remove(run.authority, 2)
    Membership(run.identity(1)).take(newest(run))
    with pytest.raises(IdentityError, match="number 1; expected more than 2"):
        push_roster(run.identity(1), older)


def test_a_roster_is_taken_if_it_is_the_authority_s_and_newer(run: IssuedRun) -> None:
    membership, roster = Membership(run.identity(1)), run.identity(1).roster
    gone = list[frozenset[str]]()
    membership.left_out.append(gone.append)
    before = (run.files(1) / ROSTER).read_bytes()
    for wrong, said in (
        (signed(passing_authority(), roster, number=2), "not that of the authority"),
        (signed(run.authority, roster, number=2, mesh="other"), "of mesh 'other'; expected"),
        (signed(run.authority, roster, members=roster.model_dump()["members"][:1]), "more than 1"),
    ):
        with pytest.raises(IdentityError, match=said):
            membership.take(wrong)
    assert (run.files(1) / ROSTER).read_bytes() == before
    assert not membership.take(newest(run)), "it is that of now"
    assert membership.take(signed(run.authority, roster.without(3), number=7))
    assert gone == [{"node-3"}]
    assert not membership.admits("node-3")
    assert not membership.admits_node(3)
    assert membership.admits("node-2")
    assert read_identity(run.files(1)).roster.number == 7


def test_a_roster_that_cannot_be_stored_holds_all_the_same_and_is_told(run: IssuedRun) -> None:
    membership = Membership(run.identity(1))
    new = signed(run.authority, run.identity(1).roster.without(3))
    shutil.rmtree(run.files(1))
    run.files(1).write_text("a file is in the way")
    with pytest.raises(IdentityError, match=r"cannot be stored .* after a restart"):
        membership.take(new)
    assert not membership.admits("node-3")


def test_what_a_roster_adds_holds_after_a_restart_and_that_is_told(
    run: IssuedRun, caplog: pytest.LogCaptureFixture
) -> None:
    membership, roster = Membership(run.identity(1)), run.identity(1).roster
    members = [*roster.model_dump()["members"], {"node": 9, "addresses": [], "serves": []}]
    membership.take(signed(run.authority, roster, number=2, members=members))
    assert "roster 2 changes node-9: that holds once this session is opened anew" in caplog.text
    membership.take(signed(run.authority, roster.without(1), number=3))
    assert "node-1 is no longer in the roster: nobody asks it" in caplog.text


def test_a_hostile_roster_is_refused_and_the_node_serves_on(run: IssuedRun, open_: ExitStack) -> None:
    serve(run, open_, 3)
    client = client_of(run, open_, 0, 1)
    forged = signed(passing_authority(), run.identity(1).roster.without(0), number=9).encoded()
    with raw_session(run.addresses[3], run.files(1), run.files(1) / AUTHORITY) as session:
        wait_until(lambda: "node-3" in linked_names(session), 20.0)
        key = asked_key(roster_key(run.manifest.mesh, 3), "node-1")
        for data in (forged, b"\x00" * 10, b"{" * 1000, b"[" * 100_000, b"{}", b'{"roster": 1}'):
            found = list(session.get(key, payload=data, timeout=5.0))
            assert found
            assert not [reply for reply in found if reply.ok], data[:20]
    assert run.identity(3).roster.number == 1
    answer = answer_to(client, IMAGE, gate=prefer(0.0, 0.0, 0.0, 1.0))
    assert not answer.degraded_T.any()


def test_a_roster_of_a_peer_is_not_looked_into_before_its_signature(
    run: IssuedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To find all that is wrong in one of 4 MB takes a minute and gigabytes."""
    right = newest(run).model_dump()
    monkeypatch.setattr(rosters, "decode_roster", lambda data, called: pytest.fail("looked into"))
    wrong = [b"{}", b"[]", b"[" * 100_000, b'{"signature": 1}', b"\xff", b"1e999"]
    wrong += [json.dumps(right | {"signature": "00" * 40}).encode()]
    wrong += [json.dumps(right | {"roster": right["roster"] | {"number": 9}}).encode()]
    for data in wrong:
        with pytest.raises(IdentityError, match=r"no signed roster|not that of the authority"):
            rosters.roster_of_peer(data, run.authority.certificate)


def test_the_first_wrong_entry_of_a_roster_ends_the_look_at_it() -> None:
    members = [{"node": 0, "addresses": [], "serves": [{}] * 10_000}]
    told = {"roster": {"mesh": "lab", "number": 1, "members": members}, "signature": "00" * 40}
    with pytest.raises(ValidationError) as raised:
        SignedRoster.model_validate_json(json.dumps(told))
    assert raised.value.error_count() < 10


def test_who_is_no_longer_in_the_roster_gets_no_roster_and_brings_none(run: IssuedRun, address: str) -> None:
    """The network's own rules are those of when the session was opened."""
    membership = Membership(run.identity(1))
    membership.take(signed(run.authority, run.identity(1).roster.without(2)))
    newer = signed(run.authority, run.identity(1).roster, number=3).encoded()
    with open_session(address) as session:
        exchange = RosterExchange(session, membership)
        for name, data, answers in (("node-2", b"", 0), ("node-2", newer, 0), ("node-3", b"", 1)):
            key = asked_key(roster_key(run.manifest.mesh, 1), name)
            found = list(session.get(key, payload=data, timeout=5.0))
            assert len([reply for reply in found if reply.ok is not None]) == answers
        exchange.close()
    assert membership.identity.roster.number == 2


def test_an_exchange_that_waits_for_others_to_settle_is_closed_all_the_same(
    run: IssuedRun, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roster_exchange, "SETTLED_S", LONG_S)
    working = started_since_now("airmoe roster")
    membership = Membership(run.identity(1))
    with open_session(address) as session:
        exchange = RosterExchange(session, membership)
        membership.changed.set()
        wait_until(lambda: not membership.changed.is_set())
        exchange.close()
        assert working() == 0


def test_an_exchange_that_is_closed_is_kept_by_nobody(run: IssuedRun, address: str) -> None:
    with open_session(address) as session:
        exchange = RosterExchange(session, Membership(run.identity(1)))
        gone = weakref.ref(exchange)
        exchange.close()
        del exchange
        gc.collect()
        assert gone() is None


def test_a_node_that_is_left_out_does_not_live_for_others_though_nobody_tells_that_it_left(
    run: IssuedRun, open_: ExitStack, address: str
) -> None:
    is_admitted = True
    with open_session(address) as session:
        tokens = [session.liveliness().declare_token(f"some/{node}") for node in (1, 2)]
        known: Liveliness[int] = Liveliness(
            session, "some", (1, 2), admits=lambda node: node == 1 or is_admitted
        )
        assert known.wait_until(lambda alive: alive == {1, 2}, 20.0)
        is_admitted = False
        known.forget_strangers()
        assert known.alive == {1}
        assert tokens
    serve(run, open_, 1, 2)
    client = client_of(run, open_, 0, 2)
    membership = client.mesh._membership
    assert membership is not None
    membership.take(signed(run.authority, run.identity(0).roster.without(2)))
    assert 2 not in alive(client)


def test_two_rosters_of_one_number_are_told(
    run: IssuedRun, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    ours, theirs = Membership(run.identity(1)), Membership(run.identity(3))
    theirs.take(signed(run.authority, run.identity(3).roster.without(2), number=2))
    ours.take(signed(run.authority, run.identity(1).roster.without(0), number=2))
    with open_session(address) as session, open_session(connect=[address]) as other:
        exchanges = RosterExchange(session, theirs), RosterExchange(other, ours)
        ours.changed.set()
        wait_until(lambda: "another roster with number 2, too" in caplog.text, 20.0)
        for exchange in exchanges:
            exchange.close()


def with_certificate_for(run: IssuedRun, node: int, seconds: float) -> None:
    write_pair(run.files(node), *dated(run.authority, f"node-{node}", -60, seconds))


def test_a_certificate_that_is_soon_over_is_told(
    run: IssuedRun, open_: ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    with_certificate_for(run, 1, 86400)
    serve(run, open_, 1, 3)
    wait_until(lambda: "the certificate of node-1 holds until" in caplog.text, 20.0)
    assert "renew it; a process that only asks has to be started anew" in caplog.text
    assert "node-3" not in caplog.text


@pytest.mark.long
def test_whose_certificate_ends_is_linked_with_nobody_2_s_later_and_the_log_says_so(
    run: IssuedRun, open_: ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    with_certificate_for(run, 1, 12.0)
    ends_s = time.monotonic() + 12.0
    serve(run, open_, 1, 3)
    client = client_of(run, open_, 0, 2)
    session = client.mesh._session
    assert linked_names(session) == ["node-1", "node-3"]
    linked_s = list[float]()
    while time.monotonic() < ends_s + 10.0:
        if "node-1" in linked_names(session):
            linked_s.append(time.monotonic() - ends_s)
        time.sleep(0.02)
    print(f"linked until {max(linked_s):.2f} s after the end")
    assert max(linked_s) <= 2.0
    assert "the certificate of node-1 held until" in caplog.text
    answer = answer_to(client, IMAGE, gate=prefer(0.0, 0.1, 0.0, 0.9))
    assert answer.dispatched.arrived_TE[0, 3]
    assert not answer.degraded_T.any()
