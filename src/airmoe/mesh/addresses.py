"""Addresses of nodes: one by one, or in a list, a file with one on each line.

Without an identity only loopback addresses are accepted.
"""

import ipaddress
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from airmoe.errors import AddressError, InvalidInputError
from airmoe.files import AnyPath, as_path

MOST_ADDRESS_BYTES = 1 << 20
"""The size of the largest file of addresses that is read."""

LOOPBACK = "127.0.0.1"

EXPECTED = "HOST:PORT, for example 127.0.0.1:7447"


Protocol = Literal["tcp", "tls"]

_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(\.(?!-)[A-Za-z0-9-]{1,63}){0,9}")


_EVERYBODY = ipaddress.ip_network("255.255.255.255/32")


class Known(NamedTuple):
    """The addresses that a session is told.

    Attributes:
        addresses: HOST:PORT, each once.
        files: names of the files that they come from.
    """

    addresses: tuple[str, ...]
    files: tuple[str, ...]


def parse_address(address: str, *, anywhere: bool = False) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT`` (``[::1]:PORT`` for IPv6).

    Args:
        address: the text.
        anywhere: whether it may be another machine's; a host may have a name then.

    Raises:
        AddressError: malformed, or not a loopback address.
    """
    bracketed, separator, port = address.rpartition(":")
    host = bracketed.removeprefix("[").removesuffix("]")
    is_bare = ":" in host and bracketed != f"[{host}]"
    is_port = port.isascii() and port.isdecimal() and len(port) <= 5 and 0 < int(port) < 65536
    if is_bare or not separator or not host or not is_port:
        raise AddressError(f"address is {address!r}; expected {EXPECTED}")
    if host == "localhost":
        return "127.0.0.1", int(port)
    number = _number_of(host)
    loopback = number is not None and number.is_loopback
    is_host = number is not None or _is_host_name(host)
    if anywhere and not is_host:
        raise AddressError(f"address is {address!r}; expected {EXPECTED}: {host!r} is no name of a host")
    if not anywhere and not loopback:
        raise AddressError(
            f"address is {address!r}; expected a loopback address (127.0.0.1, ::1 or localhost): "
            "without an identity that an authority issued, the mesh stays on this machine"
        )
    return host, int(port)


def _number_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the IP address that a host is; None for another one, and for one with a zone after a %.

    What stands in a zone would reach Zenoh, which takes a # for the beginning of options.
    """
    try:
        return None if "%" in host else ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_host_name(host: str) -> bool:
    """Return whether a host may be a name: the last part of one is no number, unlike that of 999.1.1.1."""
    last = host.rpartition(".")[2]
    return _HOST_NAME.fullmatch(host) is not None and not last.isdecimal()


def parse_own_address(address: str) -> tuple[str, int]:
    """Return host and port of an address where a node can be reached with TLS.

    Raises:
        AddressError: malformed, of many machines or none, or an IPv6 address.
    """
    host, port = parse_address(address, anywhere=True)
    number = _number_of(host)
    if isinstance(number, ipaddress.IPv6Address):
        raise AddressError(
            f"address is {address!r}; expected an IPv4 address or a host name: "
            "links with TLS do not dial IPv6 addresses"
        )
    if number is not None and (number.is_unspecified or number.is_multicast or number in _EVERYBODY):
        raise AddressError(f"address is {address!r}; expected that of one machine")
    return host.lower(), port


def endpoint(address: str, protocol: Protocol = "tcp", *, anywhere: bool = False) -> str:
    """Return what Zenoh calls an address; see `parse_address`."""
    host, port = parse_address(address, anywhere=anywhere)
    return f"{protocol}/[{host}]:{port}" if ":" in host else f"{protocol}/{host}:{port}"


def known(connect: Sequence[AnyPath], protocol: Protocol = "tcp", *, anywhere: bool = False) -> Known:
    """Return the addresses that are meant by ``connect``: HOST:PORT, and files of them.

    A line of a file is an address, or empty; what follows a # is a comment.

    Raises:
        AddressError: an address is malformed or not loopback; a file cannot be read, names no node, or
            names one twice.
        InvalidInputError: ``connect`` is one address instead of a list.
    """
    if isinstance(connect, str):
        raise InvalidInputError("connect", connect, "a list of addresses")
    by_endpoint, files = dict[str, str](), []
    for entry in connect:
        path = as_path(entry)
        if not isinstance(entry, str) or _is_file(path):
            files.append(path.name)
            by_endpoint |= _read(path, protocol, anywhere)
        elif ":" not in entry:
            raise AddressError(f"address is {entry!r}; expected {EXPECTED}, or a file with one on each line")
        else:
            by_endpoint[endpoint(entry, protocol, anywhere=anywhere)] = entry
    return Known(tuple(by_endpoint.values()), tuple(files))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # no file can have such a name, for example
        return False


def _read(file: Path, protocol: Protocol, anywhere: bool) -> dict[str, str]:
    """Return the addresses of a file by endpoint."""
    seen = dict[str, int]()
    by_endpoint = {}
    for number, address in _lines(file):
        where = f"{file.name}, line {number}"
        try:
            named = endpoint(address, protocol, anywhere=anywhere)
        except AddressError as error:
            raise AddressError(f"{where}: {error}") from None
        if named in seen:
            raise AddressError(
                f"{where}: address is {address!r}; expected every node once: line {seen[named]} has it, too"
            )
        seen[named], by_endpoint[named] = number, address
    if not seen:
        raise AddressError(f"{file.name} names no node; expected {EXPECTED}, on each line")
    return by_endpoint


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Yield number and address of every line that has one."""
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe may never end
            raise AddressError(f"cannot read {file.name}: it is no regular file")
        if (size := status.st_size) > MOST_ADDRESS_BYTES:
            raise AddressError(
                f"{file.name} has {size} bytes; expected a file of addresses of at most {MOST_ADDRESS_BYTES}"
            )
        text = file.read_text(encoding="utf-8-sig")  # Windows writes a mark at the beginning
    except OSError as error:
        raise AddressError(f"cannot read {file.name}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise AddressError(f"{file.name} is no text; expected {EXPECTED}, on each line") from None
    for number, line in enumerate(text.splitlines(), 1):
        if address := line.partition("#")[0].strip():
            yield number, address
