"""Whoever was found by gossip and is lost is dialled again, as long as the session is open."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import zenoh

from airmoe.mesh import MeshClient, close_session, open_session, redial, tend_links
from airmoe.mesh.zenoh_config import session_config
from tests.mesh.ports import free_address
from tests.mesh.processes import NodeProcess
from tests.mesh.sessions import untended
from tests.mesh.steering import LONG_S, alive, wait_until
from tests.system.faults.identities import identity_here

needs_doors = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux")


def linked_with(session: zenoh.Session) -> set[str]:
    """The addresses that a session dialled and is linked with."""
    return {link.dst.removeprefix("tcp/") for link in session.info.links()}


def redials() -> int:
    return sum(thread.name == "airmoe redial" for thread in threading.enumerate())


@pytest.fixture
def found() -> Iterator[tuple[zenoh.Session, str, zenoh.Session]]:
    """A session that listens nowhere, the address of a peer that it found by gossip, and that peer.

    Whoever told it of the peer is gone.
    """
    seed, address = free_address(), free_address()
    with ExitStack() as open_:
        told = untended(seed)
        peer = open_.enter_context(untended(address, seed))
        session = open_.enter_context(open_session(connect=[seed]))
        wait_until(lambda: address in linked_with(session), LONG_S)
        close_session(told)
        wait_until(lambda: seed not in linked_with(session), LONG_S)
        yield session, address, peer


@needs_doors
def test_a_peer_that_gossip_told_of_is_linked_again_when_it_comes_back(
    found: tuple[zenoh.Session, str, zenoh.Session],
) -> None:
    session, address, peer = found
    for _ in range(2):
        close_session(peer)
        wait_until(lambda: address not in linked_with(session), LONG_S)
        peer = untended(address)  # it knows nobody
        wait_until(lambda: address in linked_with(session), LONG_S)
    wait_until(lambda: redials() == 0, LONG_S)
    close_session(peer)


@needs_doors
def test_a_lost_peer_is_forgotten_in_the_end(
    found: tuple[zenoh.Session, str, zenoh.Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, peer = found
    close_session(peer)
    wait_until(lambda: redials() > 0, LONG_S)
    monkeypatch.setattr(redial, "FORGOTTEN_S", 0.0)
    wait_until(lambda: redials() == 0, LONG_S)


@needs_doors
@pytest.mark.parametrize("how", ["closed", "dropped"])
def test_a_session_that_is_gone_dials_nobody(how: str) -> None:
    seed, address = free_address(), free_address()
    with untended(seed) as told:
        peer, sessions = untended(address, seed), [open_session(connect=[seed])]
        wait_until(lambda: address in linked_with(sessions[0]), LONG_S)
        close_session(peer)
        wait_until(lambda: redials() > 0, LONG_S)
        if how == "closed":
            close_session(sessions[0])
        del sessions[0]
        wait_until(lambda: redials() == 0, LONG_S)
        wait_until(lambda: told.info.links() == [], LONG_S)


def test_a_session_of_ones_own_is_tended_where_it_listens() -> None:
    seed, address, own = free_address(), free_address(), free_address()
    with ExitStack() as open_:
        told, peer = untended(seed), untended(address, seed)
        session = open_.enter_context(zenoh.open(session_config([f"tcp/{own}"], [f"tcp/{seed}"])))
        tend_links(session, [f"tcp/{own}"])
        wait_until(lambda: address in linked_with(session), LONG_S)
        close_session(told)
        close_session(peer)
        wait_until(lambda: address not in linked_with(session), LONG_S)
        peer = open_.enter_context(untended(address))  # whoever of the two dials first
        wait_until(lambda: peer.zid() in session.info.peers_zid(), LONG_S)


@needs_doors
def test_a_closed_session_leaves_no_descriptor(address: str) -> None:
    def doors() -> set[str]:
        found = set()
        for descriptor in Path("/proc/self/fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                found.add(str(descriptor.readlink()))
        return {target for target in found if "airmoe-" in target}

    with open_session(address):
        of_others = doors()  # clients of other tests may be open in this process
        session = open_session(connect=[address])
        opened = doors() - of_others
        assert opened
        close_session(session)
        del session
        wait_until(lambda: opened.isdisjoint(doors()), LONG_S)


@pytest.mark.long
def test_with_the_seed_dead_a_node_that_was_frozen_is_back_within_2_s(
    folders: list[Path], remote_nodes: list[NodeProcess]
) -> None:
    seed, frozen, _ = remote_nodes
    with MeshClient(folders[0], [seed.address], identity=identity_here(folders[0])) as client:
        client.wait_for_nodes(3, LONG_S)
        seed.kill()
        for _ in range(3):
            frozen.freeze()
            time.sleep(3)
            assert alive(client) == {3}
            begin_s = time.monotonic()
            frozen.thaw()
            wait_until(lambda: alive(client) == {2, 3})
            back_s = time.monotonic() - begin_s
            print(f"back after {back_s:.3f} s")
            assert back_s < 2


def test_a_session_opens_where_no_folder_can_be_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.TemporaryDirectory", refuse)
    close_session(open_session(connect=[free_address()]))
