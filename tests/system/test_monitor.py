"""``airmoe monitor``: the page of a running mesh, until it is told to end."""

import http.client
import json
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from airmoe.mesh.fleet import NodeFleet
from airmoe.runfolder import client_folders
from tests.mesh.ports import free_address
from tests.system.commands import Command, ended_in_fork, running

pytest.importorskip("starlette", reason="needs airmoe[monitor]")


@pytest.fixture(scope="module")
def folders(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    copy = tmp_path_factory.mktemp("watched") / "run"
    shutil.copytree(run_folder, copy, ignore=shutil.ignore_patterns("identities"))
    return client_folders(copy)


@pytest.fixture(scope="module")
def fleet(folders: list[Path]) -> Iterator[NodeFleet]:
    with NodeFleet(folders) as made:
        yield made


def page_of(monitor: Command) -> tuple[str, str]:
    """Where the page is, and its token."""
    url = monitor.wait_for_line("mesh ").split()[-1]
    assert url.startswith("http://127.0.0.1:")
    return url.removeprefix("http://").partition("/")[0], url.partition("token=")[2]


def got(address: str, token: str, path: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(address, timeout=60)
    cookie = f"airmoe-{address.partition(':')[2]}={token}"
    connection.request("GET", path, headers={"Cookie": cookie, "Connection": "close"})
    return connection.getresponse()


def test_it_shows_a_mesh_with_mutual_tls_until_it_is_told_to_end(
    folders: list[Path], fleet: NodeFleet
) -> None:
    listen = free_address()
    with running("monitor", folders[0], "--connect", fleet.addresses[0], "--listen", listen) as monitor:
        address, token = page_of(monitor)
        assert address == listen
        assert monitor.wait_until_it_speaks().startswith("mutual TLS as node-0, one of 4")
        with got(address, token, "/about") as answer:
            about = json.loads(answer.read())
        assert (about["node"], about["asks"], about["policy"]) == (0, True, "topk:1")
        with got(address, token, "/looks") as answer:
            look = json.loads(answer.readline().removeprefix(b"data: "))
        assert [node["state"] for node in look["nodes"]] == ["well"] * 4
        assert all(node["certificate_ends_s"] for node in look["nodes"])
        monitor.send(signal.SIGTERM)
        assert monitor.wait() == 0
        assert token not in monitor.output.partition("\n")[2], "it is told once"
        assert "Traceback" not in monitor.output


def test_ctrl_c_ends_it_while_a_browser_watches(folders: list[Path], fleet: NodeFleet) -> None:
    with running(
        "monitor", folders[0], "--connect", fleet.addresses[0], "--listen", free_address()
    ) as monitor:
        address, token = page_of(monitor)
        with got(address, token, "/looks") as answer:
            assert answer.readline().startswith(b"data: ")
            monitor.send(signal.SIGINT)
            assert monitor.wait() == 0
        assert "Traceback" not in monitor.output


def test_a_port_in_use_is_one_line(folders: list[Path], fleet: NodeFleet) -> None:
    with socket.socket() as used:
        used.bind(("127.0.0.1", 0))
        used.listen()
        listen = f"127.0.0.1:{used.getsockname()[1]}"
        done = ended_in_fork(
            "monitor", folders[0], "--connect", fleet.addresses[0], "--listen", listen, cwd=folders[0]
        )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [f"airmoe: cannot listen on {listen}: Address already in use"]
