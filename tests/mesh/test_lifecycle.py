"""What ends when: a process with nodes and clients that nobody closed, and a node whose expert hangs."""

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from airmoe.mesh import MeshClient, Node
from airmoe.mesh.networks import OnnxNetwork
from airmoe.scheduling import TopK
from tests.mesh.steering import prefer

UNCLOSED = """
import sys
from airmoe.mesh import MeshClient, Node
node = Node(sys.argv[2], sys.argv[3])
client = MeshClient(sys.argv[1], [sys.argv[3]])
client.wait_for_nodes()
if sys.argv[4] == "raises":
    raise ValueError("trouble")
"""


@pytest.mark.parametrize(("how", "status"), [("returns", 0), ("raises", 1)])
def test_a_process_ends_though_nobody_closed_its_node_and_its_client(
    folders: list[Path], address: str, how: str, status: int
) -> None:
    command = [sys.executable, "-c", UNCLOSED, str(folders[0]), str(folders[1]), address, how]
    assert subprocess.run(command, timeout=120, capture_output=True, check=False).returncode == status


REDIALLING = """
import atexit, sys, threading, time
atexit.register(lambda: print([thread.name for thread in threading.enumerate()]))  # comes last
from airmoe.mesh import close_session, open_session
from airmoe.mesh.redial import Redialler
session = open_session(sys.argv[1])
redialler = Redialler(session.info, "tcp/" + sys.argv[1])
redialler.lost(["tcp/127.0.0.1:1"])
time.sleep(float(sys.argv[2]))
if sys.argv[3] == "closes":
    close_session(session)
"""


@pytest.mark.parametrize("after_s", [0.0, 0.4])
@pytest.mark.parametrize("how", ["closes", "ends"])
def test_no_thread_dials_any_longer_when_the_interpreter_ends(address: str, after_s: float, how: str) -> None:
    command = [sys.executable, "-c", REDIALLING, address, str(after_s), how]
    ended = subprocess.run(command, timeout=120, capture_output=True, check=False, text=True)
    assert (ended.returncode, ended.stdout) == (0, "['MainThread']\n")


LEFT_OPEN = """
import atexit, sys, threading
atexit.register(lambda: print([thread.name for thread in threading.enumerate()]))  # comes last
from airmoe.mesh import Node
node = Node(sys.argv[1], sys.argv[2])
"""


def test_a_node_that_nobody_closed_serves_no_longer_when_the_interpreter_ends(
    folders: list[Path], address: str
) -> None:
    command = [sys.executable, "-c", LEFT_OPEN, str(folders[1]), address]
    ended = subprocess.run(command, timeout=120, capture_output=True, check=False, text=True)
    assert (ended.returncode, ended.stdout) == (0, "['MainThread']\n")


def test_a_node_closes_though_its_expert_hangs(
    folders: list[Path], address: str, images: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, goes_on, computes = threading.Event(), threading.Event(), OnnxNetwork.__call__

    def hanging(network: OnnxNetwork, *arrays_T: NDArray[np.float32]) -> NDArray[np.float32]:
        if threading.current_thread().name == "airmoe experts":
            hangs.set()
            goes_on.wait(60)
        return computes(network, *arrays_T)

    monkeypatch.setattr(OnnxNetwork, "__call__", hanging)
    with MeshClient(folders[0], [address], policy=TopK(1)) as client:
        with Node(folders[1], address):
            client.wait_for_nodes()
            client.predict(images, gate=prefer(0, 1, 0, 0), deadline_s=0.5)
            assert hangs.is_set()
        assert not goes_on.is_set(), "the node is closed, and its expert still hangs"
    goes_on.set()


PENDING = """
import atexit, sys
atexit.register(lambda: print(session.is_closed()))  # comes last
import zenoh
from airmoe.mesh.wire import Wire
from airmoe.mesh.zenoh_config import session_config
session = zenoh.open(session_config([f"tcp/{sys.argv[1]}"]))
held = []
keep = zenoh.handlers.Callback(held.append, indirect=False)
silent = session.declare_queryable("silent/**", keep)
wire = Wire(session, "somebody", 0)
if sys.argv[2] == "asks":
    wire.ask(1, "silent", b"x", 60.0, lambda reply: None, "nobody")
"""


@pytest.mark.parametrize(("how", "is_closed"), [("asks", "True"), ("asks nobody", "False")])
def test_a_session_where_an_answer_may_come_is_closed_before_the_interpreter_ends(
    address: str, how: str, is_closed: str
) -> None:
    """It would come on a thread of the network's own, and abort the process."""
    command = [sys.executable, "-c", PENDING, address, how]
    ended = subprocess.run(command, timeout=120, capture_output=True, check=False, text=True)
    assert (ended.returncode, ended.stdout) == (0, is_closed + "\n"), ended.stderr


LAST_WORDS = """
import atexit, sys, time
atexit.register(lambda: print(told))  # comes last
from airmoe.mesh import close_session, open_session
from airmoe.mesh.tending import Tended
told, note = [], Tended._on_event
def on_event(tended, event):
    told.append(event.kind.name if hasattr(event.kind, "name") else str(event.kind).rpartition(".")[2])
    note(tended, event)
Tended._on_event = on_event
listens, dials = open_session(sys.argv[1]), open_session(connect=[sys.argv[1]])
while len(told) < 2:
    time.sleep(0.01)
listens.close()
"""


def test_what_the_network_tells_of_links_that_are_closed_comes_before_the_interpreter_ends(
    address: str,
) -> None:
    command = [sys.executable, "-c", LAST_WORDS, address]
    ended = subprocess.run(command, timeout=120, capture_output=True, check=False, text=True)
    assert (ended.returncode, ended.stdout) == (0, "['PUT', 'PUT', 'DELETE']\n"), ended.stderr
