"""Links close at once: the kernel's SO_LINGER is off on the sockets of links, and on no other."""

import os
import socket
import struct
from contextlib import suppress
from pathlib import Path

import pytest
import zenoh

from airmoe.mesh import open_session, tend_links
from airmoe.mesh.locators import host_and_port
from airmoe.mesh.zenoh_config import session_config
from tests.mesh.steering import LONG_S, wait_until

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux")


def lingers(session: zenoh.Session) -> list[bool]:
    """Whether SO_LINGER is on, for each socket of a session's links."""
    ends = [(host_and_port(link.src), host_and_port(link.dst)) for link in session.info.links()]
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # closed meanwhile, or not connected
            if str(descriptor.readlink()).startswith("socket:"):
                with socket.socket(fileno=os.dup(int(descriptor.name))) as opened:
                    if (opened.getsockname()[:2], opened.getpeername()[:2]) in ends:
                        found.append(linger(opened))
    return found


def linger(opened: socket.socket) -> bool:
    on, _ = struct.unpack("ii", opened.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8))
    return bool(on)


def test_no_link_of_a_session_lingers_whoever_dialled(address: str) -> None:
    with open_session(address) as listens, open_session(connect=[address]) as dials:
        wait_until(lambda: lingers(listens) == lingers(dials) == [False], LONG_S)


def test_a_session_of_ones_own_lingers_until_it_is_tended(address: str) -> None:
    with open_session(address), zenoh.open(session_config(connect=[f"tcp/{address}"])) as session:
        wait_until(lambda: lingers(session) == [True], LONG_S)
        tend_links(session)
        wait_until(lambda: lingers(session) == [False], LONG_S)


def test_sockets_that_are_no_links_stay_as_they_are(address: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 7))
        own.connect(server.getsockname())
        with open_session(address) as listens, open_session(connect=[address]):
            wait_until(lambda: lingers(listens) == [False], LONG_S)
            assert linger(own)
