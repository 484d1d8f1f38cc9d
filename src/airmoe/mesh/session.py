"""Zenoh sessions as airmoe uses them: peers with mutual TLS, or without on loopback alone."""

import socket
import time
from collections.abc import Sequence
from contextlib import suppress

import zenoh

from airmoe.errors import AddressError
from airmoe.files import AnyPath
from airmoe.mesh.addresses import LOOPBACK, Protocol, endpoint, known, parse_address
from airmoe.mesh.door import open_with_door
from airmoe.mesh.identity import Identity
from airmoe.mesh.log import mesh_log
from airmoe.mesh.membership import Membership
from airmoe.mesh.tending import Tended
from airmoe.mesh.zenoh_config import session_config

OPENING_S = 0.5
"""How long whoever asks waits for links with the addresses that it was told of, and for news of others."""

CLOSING_S = 5.0
"""How long `close_session` waits for a thread that still sends."""


def open_session(
    listen: str | None = None, connect: Sequence[AnyPath] = (), membership: Membership | None = None
) -> zenoh.Session:
    """Open a session that keeps retrying its connections and learns of other peers by gossip.

    A peer that was found by gossip and is lost is dialled again, too.

    Args:
        listen: address to listen on, ``HOST:PORT``; None to only connect.
        connect: addresses to connect to, HOST:PORT, or files with one on each line. Such a file names every
            node, this one too: the log then says who else is linked.
        membership: who this node is, and who else belongs to the mesh. Links have mutual TLS then, may leave
            this machine, and also lead to all addresses of the roster. Default: no identity, and loopback
            alone.

    Raises:
        AddressError: an address is malformed, not loopback, in use, or twice in a file.
        IdentityError: the certificate does not hold now.
    """
    identity = None if membership is None else membership.identity
    protocol: Protocol = "tcp" if identity is None else "tls"
    anywhere = identity is not None and identity.holds_elsewhere
    told = known(connect, protocol, anywhere=anywhere)
    if listen is not None:
        _refuse_used(listen, anywhere)
    here = [] if listen is None else [endpoint(listen, protocol, anywhere=anywhere)]
    known_by_roster = [] if identity is None else identity.roster.addresses
    own = () if identity is None or listen is None else identity.member.addresses
    addresses = [*told.addresses, *(each for each in known_by_roster if each not in own)]
    if protocol == "tls":
        _refuse_ipv6(addresses)
    endpoints = dict.fromkeys(endpoint(each, protocol, anywhere=anywhere) for each in addresses)
    there = [each for each in endpoints if each not in here]

    def open_at(locators: Sequence[str]) -> zenoh.Session:
        try:
            return zenoh.open(session_config(locators, there, identity=identity))
        except zenoh.ZError as error:
            raise AddressError(f"cannot open a session on {listen or connect}: {error}") from None

    session, door = (open_at(here), None) if here else open_with_door(open_at)
    Tended(session, here, door, there, told.files, membership)
    if not here:
        _wait_for_links(session, len(there))
    return session


def await_news(session: zenoh.Session, below: str) -> None:
    """Wait until everybody who is linked has told who is alive below a key, for `OPENING_S` at most."""
    for _ in session.liveliness().get(f"{below}/**", timeout=OPENING_S):
        pass


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
        except zenoh.ZError as error:  # a peer that stopped reading may hold it up
            mesh_log.warning("a session could not be closed: %s", error)
            return


def reachable(identity: Identity | None) -> str:
    """Return an address at which nobody listens yet: at the node's own host, if this machine has it.

    Args:
        identity: of the node; None for loopback.
    """
    own = [] if identity is None or not identity.holds_elsewhere else identity.member.addresses
    hosts = [parse_address(address, anywhere=True)[0] for address in own]
    for host in (*hosts, LOOPBACK):
        with suppress(OSError), socket.socket() as probe:
            probe.bind((host, 0))
            return f"{host}:{probe.getsockname()[1]}"
    raise AddressError(f"no port of {LOOPBACK} is free")


def _wait_for_links(session: zenoh.Session, wanted: int) -> None:
    end_s = time.monotonic() + OPENING_S
    while len(session.info.links()) < wanted and time.monotonic() < end_s:
        time.sleep(0.002)


def _refuse_ipv6(addresses: Sequence[str]) -> None:
    for address in addresses:
        if address.startswith("["):
            expected = "IPv4 or the name of a host: with TLS, Zenoh links with no IPv6 address"
            raise AddressError(f"address is {address!r}; expected {expected}")


def _refuse_used(address: str, anywhere: bool) -> None:
    host, port = parse_address(address, anywhere=anywhere)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise AddressError(f"cannot listen on {address}: {error.strerror}") from None
