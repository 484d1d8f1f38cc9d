"""Addresses of nodes: one by one, or in a roster, a file with one on each line.

Until mutual TLS is there, only loopback addresses are accepted.
"""

import ipaddress
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from airmoe.errors import AddressError, InvalidInputError
from airmoe.files import AnyPath, as_path

MOST_ROSTER_BYTES = 1 << 20
"""The size of the largest roster that is read."""

EXPECTED = "HOST:PORT, for example 127.0.0.1:7447"


class Known(NamedTuple):
    """The addresses that a session is told.

    Attributes:
        addresses: HOST:PORT, each once.
        rosters: names of the files that they come from.
    """

    addresses: tuple[str, ...]
    rosters: tuple[str, ...]


def parse_address(address: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT`` (``[::1]:PORT`` for IPv6).

    Raises:
        AddressError: malformed, or not a loopback address.
    """
    bracketed, separator, port = address.rpartition(":")
    host = bracketed.removeprefix("[").removesuffix("]")
    is_bare = ":" in host and bracketed != f"[{host}]"
    is_port = port.isdecimal() and len(port) <= 5 and 0 < int(port) < 65536
    if is_bare or not separator or not host or not is_port:
        raise AddressError(f"address is {address!r}; expected {EXPECTED}")
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


def endpoint(address: str) -> str:
    """Return what Zenoh calls an address."""
    host, port = parse_address(address)
    return f"tcp/[{host}]:{port}" if ":" in host else f"tcp/{host}:{port}"


def known(connect: Sequence[AnyPath]) -> Known:
    """Return the addresses that are meant by ``connect``: HOST:PORT, and rosters of them.

    A line of a roster is an address, or empty; what follows a # is a comment.

    Raises:
        AddressError: an address is malformed or not loopback; a roster cannot be read, names no node, or
            names one twice.
        InvalidInputError: ``connect`` is one address instead of a list.
    """
    if isinstance(connect, str):
        raise InvalidInputError("connect", connect, "a list of addresses")
    by_endpoint, rosters = dict[str, str](), []
    for entry in connect:
        path = as_path(entry)
        if not isinstance(entry, str) or _is_file(path):
            rosters.append(path.name)
            by_endpoint |= _read(path)
        elif ":" not in entry:
            raise AddressError(f"address is {entry!r}; expected {EXPECTED}, or a file with one on each line")
        else:
            by_endpoint[endpoint(entry)] = entry
    return Known(tuple(by_endpoint.values()), tuple(rosters))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # no file can have such a name, for example
        return False


def _read(roster: Path) -> dict[str, str]:
    """Return the addresses of a roster by endpoint."""
    seen = dict[str, int]()
    by_endpoint = {}
    for number, address in _lines(roster):
        where = f"{roster.name}, line {number}"
        try:
            named = endpoint(address)
        except AddressError as error:
            raise AddressError(f"{where}: {error}") from None
        if named in seen:
            raise AddressError(
                f"{where}: address is {address!r}; expected every node once: line {seen[named]} has it, too"
            )
        seen[named], by_endpoint[named] = number, address
    if not seen:
        raise AddressError(f"{roster.name} names no node; expected {EXPECTED}, on each line")
    return by_endpoint


def _lines(roster: Path) -> Iterator[tuple[int, str]]:
    """Yield number and address of every line that has one."""
    try:
        status = roster.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe may never end
            raise AddressError(f"cannot read {roster.name}: it is no regular file")
        if (size := status.st_size) > MOST_ROSTER_BYTES:
            raise AddressError(
                f"{roster.name} has {size} bytes; expected a roster of at most {MOST_ROSTER_BYTES}"
            )
        text = roster.read_text(encoding="utf-8-sig")  # Windows writes a mark at the beginning
    except OSError as error:
        raise AddressError(f"cannot read {roster.name}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise AddressError(f"{roster.name} is no text; expected {EXPECTED}, on each line") from None
    for number, line in enumerate(text.splitlines(), 1):
        if address := line.partition("#")[0].strip():
            yield number, address
