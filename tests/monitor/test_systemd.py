"""What systemd hears, on a socket of the test."""

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from airmoe.monitor.systemd import Systemd
from tests.threads import started_since_now

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no such sockets here")

SOON_US = "20000"


def nothing() -> None:
    return None


@pytest.fixture(params=["file", "abstract"])
def heard(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """The address as systemd tells it, and the socket that hears."""
    name = f"@airmoe-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{name[1:]}" if name.startswith("@") else name)
        listening.settimeout(60)
        yield name, listening


def test_a_service_says_that_it_serves_that_it_is_well_and_that_it_ends(
    heard: tuple[str, socket.socket],
) -> None:
    name, listening = heard
    service = Systemd({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": SOON_US})
    service.serves(nothing)
    assert [listening.recv(100) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
    service.ends()
    said = b"WATCHDOG=1"
    while said == b"WATCHDOG=1":
        said = listening.recv(100)
    assert said == b"STOPPING=1"


def test_one_that_is_not_well_gives_no_sign_of_life_until_it_is_again(
    heard: tuple[str, socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    name, listening = heard
    looks, looked = list[str | None]([None, "it hangs", "it hangs", "it hangs", None]), threading.Event()

    def why_not() -> str | None:
        if not looks:
            looked.wait(60)
        return looks.pop(0) if looks else "the test is over"

    service = Systemd({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": SOON_US})
    service.serves(why_not)
    assert [listening.recv(100) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
    assert looks == [], "three looks in between said nothing"
    service.ends()
    assert listening.recv(100) == b"STOPPING=1"
    looked.set()
    assert caplog.messages[:1] == ["no sign of life for systemd: it hangs"]


@pytest.mark.parametrize(
    "more", [{}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": SOON_US, "WATCHDOG_PID": "1"}]
)
def test_where_no_watchdog_waits_for_this_process_none_is_told(
    heard: tuple[str, socket.socket], more: dict[str, str]
) -> None:
    name, listening = heard
    watching = started_since_now("airmoe watchdog")
    service = Systemd({"NOTIFY_SOCKET": name, **more})
    service.serves(nothing)
    assert watching() == 0
    service.ends()
    assert [listening.recv(100) for _ in range(2)] == [b"READY=1", b"STOPPING=1"]


def test_without_systemd_nothing_is_said() -> None:
    watching = started_since_now("airmoe watchdog")
    service = Systemd({"WATCHDOG_USEC": SOON_US})
    service.serves(nothing)
    service.ends()
    assert watching() == 0


def test_what_systemd_told_this_process_is_not_handed_on(heard: tuple[str, socket.socket]) -> None:
    environment = {"NOTIFY_SOCKET": heard[0], "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "HOME": "/"}
    Systemd(environment)
    assert environment == {"HOME": "/"}


def test_a_socket_that_nobody_reads_stops_nobody(
    heard: tuple[str, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airmoe.monitor.systemd.SAYING_S", 0.01)
    service = Systemd({"NOTIFY_SOCKET": heard[0]})
    for _ in range(300):
        service.serves(nothing)
    service.ends()


def test_a_socket_that_is_gone_stops_nobody(tmp_path: Path) -> None:
    service = Systemd({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    service.serves(nothing)
    service.ends()
