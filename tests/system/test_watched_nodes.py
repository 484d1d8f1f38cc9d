"""``airmoe serve`` as others watch it: metrics and health over HTTP, signs of life for systemd."""

import http.client
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from airmoe.mesh.fleet import free_addresses
from airmoe.runfolder import client_folders
from tests.mesh.ports import free_address
from tests.mesh.steering import wait_until
from tests.system.commands import airmoe_without, ended_in_fork, running

pytest.importorskip("prometheus_client", reason="needs airmoe[monitor]")

HANGING = """
import sys, threading, time
import airmoe.mesh.condition
from airmoe.mesh.networks import OnnxNetwork

computes = OnnxNetwork.__call__
airmoe.mesh.condition.STUCK_S = 0.5

def hanging(network, *arrays):
    if threading.current_thread().name == "airmoe experts":
        print("it hangs", flush=True)
        time.sleep(3600)
    return computes(network, *arrays)

OnnxNetwork.__call__ = hanging
sys.argv[0] = "airmoe"
from airmoe.cli import main
main()
"""
"""A node whose expert never ends."""


def told(address: str, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.request("GET", path)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def value(address: str, metric: str) -> float:
    (line,) = [line for line in told(address, "/metrics")[1].splitlines() if line.startswith(f"{metric} ")]
    return float(line.rpartition(" ")[2])


@pytest.fixture
def image(tmp_path: Path) -> Path:
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(tmp_path / "black.png")
    return tmp_path / "black.png"


@contextmanager
def notified(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A socket that hears what the processes that are started here tell systemd."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(folder / "notify"))
        listening.settimeout(120)
        monkeypatch.setenv("NOTIFY_SOCKET", str(folder / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "200000")
        yield listening


def asked(folder: Path, image: Path, address: str, cwd: Path, deadline_s: float) -> str:
    options = "--client", folder, "--connect", address, "--policy", "all", "--deadline", deadline_s
    return ended_in_fork("predict", image, *options, cwd=cwd).stdout


def test_a_node_tells_what_it_answered_and_systemd_that_it_lives(
    run_folder: Path, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders, (address, metrics) = client_folders(run_folder), free_addresses(2)
    with (
        notified(tmp_path, monkeypatch) as systemd,
        running("serve", folders[1], "--listen", address, "--metrics", metrics) as node,
    ):
        line = node.wait_for_line("metrics at")
        assert line == f"metrics at http://{metrics}/metrics, health at http://{metrics}/health\n"
        assert [systemd.recv(100), systemd.recv(100)] == [b"READY=1", b"WATCHDOG=1"]
        assert "answered by" in asked(folders[0], image, address, tmp_path, 60)
        wait_until(lambda: value(metrics, "airmoe_items_total") == 1, 60)
        assert 'airmoe_requests_total{asker="node-0"} 1.0' in told(metrics, "/metrics")[1]
        assert json.loads(told(metrics, "/health")[1])["healthy"] is True
        node.send(signal.SIGTERM)
        said = b"WATCHDOG=1"
        while said == b"WATCHDOG=1":
            said = systemd.recv(100)
        assert said == b"STOPPING=1"
        assert node.wait() == 0


def test_a_node_whose_expert_hangs_is_not_healthy_and_gives_no_sign_of_life(
    run_folder: Path, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders, (address, metrics) = client_folders(run_folder), free_addresses(2)
    options = "serve", folders[1], "--listen", address, "--metrics", metrics
    with (
        notified(tmp_path, monkeypatch) as systemd,
        running(*options, program=(sys.executable, "-c", HANGING)) as node,
    ):
        node.wait_for_line("metrics at")
        assert [systemd.recv(100), systemd.recv(100)] == [b"READY=1", b"WATCHDOG=1"]
        asked(folders[0], image, address, tmp_path, 1)
        node.wait_for_line("it hangs")
        wait_until(lambda: told(metrics, "/health")[0] == 503, 60)
        assert "one request has been computed for" in told(metrics, "/health")[1]
        assert value(metrics, "airmoe_healthy") == 0
        node.wait_for_line_with("no sign of life for systemd")
        systemd.setblocking(False)
        with suppress(BlockingIOError):  # what came before it was stuck
            while True:
                assert systemd.recv(100) == b"WATCHDOG=1"
        systemd.settimeout(2)  # ten times as long as systemd would wait
        with pytest.raises(TimeoutError):
            systemd.recv(100)
        node.send(signal.SIGTERM)
        systemd.settimeout(60)
        assert systemd.recv(100) == b"STOPPING=1"
        assert node.wait() == 0


def test_all_nodes_of_a_run_tell_on_one_port_after_the_other_and_their_parent_speaks_to_systemd(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = 20_000 + os.getpid() % 10_000
    with notified(tmp_path, monkeypatch) as systemd:
        options = "--listen", f"127.0.0.1:{first}", "--metrics", f"127.0.0.1:{first + 100}"
        with running("serve", run_folder, "--all", *options) as nodes:
            nodes.wait_for_line("mutual TLS")
            for node in range(4):
                port = first + 100 + node
                line = f"node {node}: metrics at http://127.0.0.1:{port}/metrics"
                if line not in nodes.output:  # a node's lines and its parent's come in any order
                    nodes.wait_for_line_with(line, 60)
                assert json.loads(told(f"127.0.0.1:{port}", "/health")[1])["node"] == node
            assert [systemd.recv(100), systemd.recv(100)] == [b"READY=1", b"WATCHDOG=1"]
            nodes.send(signal.SIGTERM)
            assert nodes.wait() == 0


def test_a_place_where_metrics_cannot_be_told_is_refused_in_a_line(run_folder: Path, tmp_path: Path) -> None:
    folder, address = client_folders(run_folder)[1], free_address()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        in_use = f"127.0.0.1:{taken.getsockname()[1]}"
        for where, line in (
            ("0.0.0.0:9447", "airmoe: metrics is '0.0.0.0:9447'; expected a loopback HOST:PORT, "),
            ("9447", "airmoe: metrics is '9447'; expected a loopback HOST:PORT, "),
            (in_use, f"airmoe: cannot listen on {in_use}: Address already in use\n"),
        ):
            options = "--listen", address, "--metrics", where
            done = ended_in_fork("serve", folder, *options, cwd=tmp_path)
            assert done.returncode == 2
            assert done.stderr.startswith(line), done.stderr
            assert done.stderr.count("\n") == 1
    options = "--all", "--listen", address, "--metrics", "127.0.0.1:65534"
    done = ended_in_fork("serve", run_folder, *options, cwd=tmp_path)
    assert "metrics is '127.0.0.1:65534'; expected a port of at most 65532" in done.stderr


def test_metrics_without_their_extra_are_refused_with_the_command_that_installs_it(run_folder: Path) -> None:
    options = "--listen", free_address(), "--metrics", free_address()
    program = airmoe_without("prometheus_client")
    with running("serve", client_folders(run_folder)[1], *options, program=program) as node:
        line = node.wait_until_it_speaks()
        assert node.wait() == 2
    assert line.startswith("airmoe: --metrics needs prometheus_client; install with: pip install")
