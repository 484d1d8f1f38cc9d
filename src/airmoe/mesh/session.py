"""Zenoh sessions as airmoe uses them: peers on loopback, no multicast, no shared memory.

Until mutual TLS is there, only loopback addresses are accepted.
"""

import ipaddress
import json
import socket
import time
from collections.abc import Sequence

import zenoh

from airmoe.errors import AddressError, InvalidInputError
from airmoe.mesh.frame import MAX_FRAME_BYTES

LEASE_MS = 1500
"""A node that says nothing for this long is taken for dead."""

CLOSING_S = 5.0
"""How long `close_session` waits for a thread that still sends."""


def parse_address(address: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT`` (``[::1]:PORT`` for IPv6).

    Raises:
        AddressError: malformed, or not a loopback address.
    """
    bracketed, separator, port = address.rpartition(":")
    host = bracketed.removeprefix("[").removesuffix("]")
    is_bare = ":" in host and bracketed != f"[{host}]"
    if is_bare or not separator or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise AddressError(f"address is {address!r}; expected HOST:PORT, for example 127.0.0.1:7447")
    if host == "localhost":
        return "127.0.0.1", int(port)
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise AddressError(
            f"address is {address!r}; expected a loopback address (127.0.0.1, ::1 or localhost): "
            "without mutual TLS the mesh is unauthenticated and stays on this machine"
        )
    return host, int(port)


def open_session(listen: str | None = None, connect: Sequence[str] = ()) -> zenoh.Session:
    """Open a session that keeps retrying its connections and learns of other peers by gossip.

    Args:
        listen: address to listen on, ``HOST:PORT``; None to only connect.
        connect: addresses to connect to.

    Raises:
        AddressError: an address is malformed, not loopback, or in use.
    """
    if isinstance(connect, str):
        raise InvalidInputError("connect", connect, "a list of addresses")
    if listen is not None:
        _refuse_used(listen)
    config = zenoh.Config()
    for key, value in {
        "mode": "peer",
        "listen/endpoints": [] if listen is None else [_endpoint(listen)],
        "connect/endpoints": [_endpoint(address) for address in connect],
        "connect/timeout_ms": -1,
        "connect/exit_on_failure": False,
        "connect/retry": {"period_init_ms": 100, "period_max_ms": 500, "period_increase_factor": 1.5},
        "scouting/multicast/enabled": False,
        "scouting/gossip/enabled": True,
        "transport/shared_memory/enabled": False,
        "transport/link/tx/lease": LEASE_MS,
        "transport/link/rx/max_message_size": 2 * MAX_FRAME_BYTES,  # with room for Zenoh's own headers
        # A send to a node that stopped reading holds up the whole session. This closes the node's link.
        "transport/link/tx/queue/congestion_control/block/wait_before_close": LEASE_MS * 1000,
    }.items():
        config.insert_json5(key, json.dumps(value))
    try:
        return zenoh.open(config)
    except zenoh.ZError as error:
        raise AddressError(f"cannot open a session on {listen or connect}: {error}") from None


def close_session(session: zenoh.Session) -> None:
    """Close a session as soon as no other thread sends through it; until then Zenoh refuses to.

    A send to a node that stopped reading ends after `LEASE_MS`.
    """
    end_s = time.monotonic() + CLOSING_S
    while not session.is_closed():
        try:
            session.close()
        except RuntimeError:
            if time.monotonic() >= end_s:
                raise
            time.sleep(0.01)


def _endpoint(address: str) -> str:
    host, port = parse_address(address)
    return f"tcp/[{host}]:{port}" if ":" in host else f"tcp/{host}:{port}"


def _refuse_used(address: str) -> None:
    host, port = parse_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise AddressError(f"cannot listen on {address}: {error.strerror}") from None
