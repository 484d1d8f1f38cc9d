"""Addresses: loopback only, well formed, free."""

import socket

import pytest

from airmoe.errors import AddressError
from airmoe.mesh import close_session, open_session, parse_address
from airmoe.mesh import session as opening
from tests.mesh.ports import free_address
from tests.mesh.steering import LONG_S


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:7447", ("127.0.0.1", 7447)),
        ("127.8.9.1:1", ("127.8.9.1", 1)),
        ("localhost:65535", ("127.0.0.1", 65535)),
        ("[::1]:7447", ("::1", 7447)),
    ],
)
def test_a_loopback_address_is_host_and_port(address: str, expected: tuple[str, int]) -> None:
    assert parse_address(address) == expected


@pytest.mark.parametrize(
    "address",
    [
        "",
        "7447",
        ":7447",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:0",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "127.0.0.1:7447/x",
        "127.0.0.1:http",
        "127.0.0.1: 7447",
        "[]:7447",
        "::1:7447",
        "[::1:7447",
    ],
)
def test_a_malformed_address_is_named(address: str) -> None:
    with pytest.raises(AddressError) as raised:
        parse_address(address)
    assert repr(address) in str(raised.value)
    assert "expected HOST:PORT" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0:7447",
        "192.168.1.5:7447",
        "[::]:7447",
        "[fe80::1]:7447",
        "example.com:7447",
        "127.1:7447",
        "127.0.0.1#iface=eth0:7447",
        "tcp/127.0.0.1:7447",
    ],
)
def test_an_address_off_this_machine_is_refused(address: str) -> None:
    with pytest.raises(AddressError) as raised:
        parse_address(address)
    assert repr(address) in str(raised.value)
    assert "expected a loopback address" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_session_does_not_listen_off_this_machine() -> None:
    with pytest.raises(AddressError, match=r"'0\.0\.0\.0:7447'"):
        open_session("0.0.0.0:7447")


def test_a_session_does_not_connect_off_this_machine() -> None:
    with pytest.raises(AddressError, match=r"'192\.168\.1\.5:7447'"):
        open_session(connect=["192.168.1.5:7447"])


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(AddressError, match=f"^cannot listen on {address}: Address already in use$"):
            open_session(address)


def test_a_session_accepts_connections_where_it_listens() -> None:
    address = free_address()
    with open_session(address), socket.create_connection(parse_address(address), timeout=2):
        pass


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
def test_a_session_listens_on_ipv6_loopback() -> None:
    with socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        port = probe.getsockname()[1]
    with open_session(f"[::1]:{port}"), socket.create_connection(("::1", port), timeout=2):
        pass


def test_a_session_that_listens_nowhere_is_linked_when_it_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "OPENING_S", LONG_S)
    address = free_address()
    with open_session(address), open_session(connect=[address]) as session:
        assert [link.dst for link in session.info.links()] == [f"tcp/{address}"]


def test_an_address_at_which_nobody_listens_holds_it_up_for_no_longer_than_it_may(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(opening, "OPENING_S", 0.0)
    with open_session(connect=[free_address()]) as session:
        assert session.info.links() == []


def test_a_closed_session_frees_its_port() -> None:
    address = free_address()
    open_session(address).close()
    open_session(address).close()


class Sending:
    """A session through which another thread sends for so many attempts at closing it, as Zenoh tells it."""

    def __init__(self, attempts: int) -> None:
        self.attempts = attempts

    def is_closed(self) -> bool:
        return self.attempts < 0

    def close(self) -> None:
        self.attempts -= 1
        if self.attempts >= 0:
            raise RuntimeError("Already borrowed")


def test_a_session_is_closed_once_no_other_thread_sends_through_it() -> None:
    session = Sending(3)
    close_session(session)  # type: ignore[arg-type]
    assert session.is_closed()


def test_a_session_may_be_closed_twice(address: str) -> None:
    session = open_session(address)
    close_session(session)
    close_session(session)
    assert session.is_closed()
