"""SIGTERM ends ``serve`` and ``predict`` within 2 s, whatever hangs: an expert, or another process."""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from airmoe.runfolder import client_folders
from tests.mesh.ports import free_address
from tests.system.commands import AIRMOE, Command, running

pytestmark = pytest.mark.long

LIMIT_S = 2.0

HANGING = """
import sys, threading, time
from airmoe.mesh.networks import OnnxNetwork

computes = OnnxNetwork.__call__

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

HEALTHY = AIRMOE
WEDGED = (sys.executable, "-c", HANGING)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(tmp_path / "black.png")
    return tmp_path / "black.png"


@contextmanager
def serving(run_folder: Path, program: tuple[str, ...]) -> Iterator[tuple[Command, str]]:
    address = free_address()
    folder = client_folders(run_folder)[1]
    with running("serve", folder, "--listen", address, program=program) as node:
        node.wait_for_line("mutual TLS")
        yield node, address


@contextmanager
def asking(run_folder: Path, image: Path, address: str) -> Iterator[Command]:
    """A command that asks far longer than the test lasts; nothing it prints is read after the first line."""
    names, folder = [image] * 5000, client_folders(run_folder)[0]
    with running("predict", *names, "--client", folder, "--connect", address, "--policy", "all") as asker:
        asker.wait_for_line(str(image))
        yield asker


def seconds_until_it_ends(command: Command) -> float:
    assert command.is_running
    begin_s = time.monotonic()
    command.send(signal.SIGTERM)
    assert command.wait() in {0, 130}
    took_s = time.monotonic() - begin_s
    print(f"ended after {took_s:.2f} s")
    assert "Traceback" not in command.output
    return took_s


def test_a_node_whose_expert_hangs_ends(run_folder: Path, image: Path) -> None:
    with serving(run_folder, WEDGED) as (node, address), asking(run_folder, image, address):
        node.wait_for_line("it hangs")
        assert seconds_until_it_ends(node) < LIMIT_S


def test_a_node_whose_asker_is_frozen_ends(run_folder: Path, image: Path) -> None:
    with serving(run_folder, HEALTHY) as (node, address), asking(run_folder, image, address) as asker:
        asker.send(signal.SIGSTOP)
        assert seconds_until_it_ends(node) < LIMIT_S


@pytest.mark.parametrize("program", [HEALTHY, WEDGED], ids=["is frozen", "has an expert that hangs"])
def test_who_asks_ends_though_the_node(run_folder: Path, image: Path, program: tuple[str, ...]) -> None:
    with serving(run_folder, program) as (node, address), asking(run_folder, image, address) as asker:
        if program is HEALTHY:
            node.send(signal.SIGSTOP)
        else:
            node.wait_for_line("it hangs")
        assert seconds_until_it_ends(asker) < LIMIT_S
