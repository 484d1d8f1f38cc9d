"""Zenoh sessions as airmoe uses them: peers on loopback, no multicast, no shared memory.

Until mutual TLS is there, only loopback addresses are accepted.
"""

import socket
import time
from collections.abc import Sequence

import zenoh

from airmoe.errors import AddressError
from airmoe.files import AnyPath
from airmoe.mesh.addresses import endpoint, known, parse_address
from airmoe.mesh.door import open_with_door
from airmoe.mesh.tending import Tended
from airmoe.mesh.zenoh_config import session_config

CLOSING_S = 5.0
"""How long `close_session` waits for a thread that still sends."""


def open_session(listen: str | None = None, connect: Sequence[AnyPath] = ()) -> zenoh.Session:
    """Open a session that keeps retrying its connections and learns of other peers by gossip.

    A peer that was found by gossip and is lost is dialled again, too.

    Args:
        listen: address to listen on, ``HOST:PORT``; None to only connect.
        connect: addresses to connect to, HOST:PORT, or files with one on each line (rosters). A roster names
            every node, this one too: the log then says who else is linked.

    Raises:
        AddressError: an address is malformed, not loopback, in use, or twice in a roster.
    """
    told = known(connect)
    if listen is not None:
        _refuse_used(listen)
    here = [] if listen is None else [endpoint(listen)]
    there = [each for each in map(endpoint, told.addresses) if each not in here]

    def open_at(locators: Sequence[str]) -> zenoh.Session:
        try:
            return zenoh.open(session_config(locators, there))
        except zenoh.ZError as error:
            raise AddressError(f"cannot open a session on {listen or connect}: {error}") from None

    session, door = (open_at(here), None) if here else open_with_door(open_at)
    Tended(session, here, door, there, told.rosters)
    return session


def close_session(session: zenoh.Session) -> None:
    """Close a session as soon as no other thread sends through it; until then Zenoh refuses to.

    A send to a node that stopped reading ends after `airmoe.mesh.zenoh_config.LEASE_MS`.
    """
    end_s = time.monotonic() + CLOSING_S
    while not session.is_closed():
        try:
            session.close()
        except RuntimeError:
            if time.monotonic() >= end_s:
                raise
            time.sleep(0.01)


def _refuse_used(address: str) -> None:
    host, port = parse_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise AddressError(f"cannot listen on {address}: {error.strerror}") from None
