"""Node processes: they serve, they die when told to, and none is left."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from airmoe.errors import InvalidInputError, MeshError
from airmoe.mesh import MeshClient
from airmoe.mesh.fleet import READY, NodeFleet
from airmoe.runfolder import GATE, client_folders
from airmoe.scheduling import make_policy
from tests.system.commands import left_after, processes_about


@pytest.fixture
def folders(run_folder: Path, tmp_path: Path) -> list[Path]:
    """A copy of the clients' folders, whose place marks the processes of this test."""
    shutil.copytree(run_folder, tmp_path / "run", ignore=shutil.ignore_patterns("identities"))
    return client_folders(tmp_path / "run")


def test_every_node_is_a_process_until_the_fleet_is_closed(tmp_path: Path, folders: list[Path]) -> None:
    with NodeFleet(folders[:3]) as fleet:
        assert len(processes_about(tmp_path)) == 3
        assert len(set(fleet.addresses)) == 3
        assert all(0 < seconds < 60 for seconds in fleet.start_s)
    assert processes_about(tmp_path) == {}


def test_only_node_0_schedules_and_only_if_told_to(tmp_path: Path, folders: list[Path]) -> None:
    with NodeFleet(folders[:2], schedule="jesa:0.3:2", slot_ms=7) as fleet:
        lines = processes_about(tmp_path).values()
        (scheduler,) = [line for line in lines if "--schedule" in line]
        assert f"serve {folders[0]} " in scheduler
        assert "--schedule jesa:0.3:2 --slot-ms 7" in scheduler
        with MeshClient(
            folders[1], fleet.addresses, policy=make_policy("jesa:0.3:2"), identity=fleet.identities[1]
        ) as client:
            assert client.schedulers.liveliness.wait_until(bool, 5)
            assert client.schedulers.liveliness.alive == {0}
            answer = client.predict(np.zeros((1, 1, 32, 32), np.uint8))
        assert answer.dispatched.decided_by == "jesa:0.3:2"
    with NodeFleet(folders[:1]):
        assert not [line for line in processes_about(tmp_path).values() if "--schedule" in line]


def test_what_a_node_says_before_it_serves_is_told_too(folders: list[Path]) -> None:
    (folders[1] / GATE).unlink()
    told = list[tuple[int, str]]()
    with NodeFleet(folders[:2], said=lambda node, line: told.append((node, line))):
        of_the_second = [line for node, line in told if node == 1]
    assert f" WARNING {folders[1] / GATE} cannot be read" in of_the_second[0]
    assert of_the_second[1].startswith(READY)


def test_a_killed_node_is_gone_and_the_others_are_not(tmp_path: Path, folders: list[Path]) -> None:
    with NodeFleet(folders[:3]) as fleet:
        fleet.kill(1)
        deadline = time.monotonic() + 5
        while len(left := processes_about(tmp_path)) > 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(left) == 2
        assert not [line for line in left.values() if fleet.addresses[1] in line.partition("--connect")[0]]
        memory_mb = fleet.memory_mb()
        assert memory_mb[1] == 0
        assert all(20 < memory_mb[node] < 135 for node in (0, 2))


def test_closing_twice_is_harmless(tmp_path: Path, folders: list[Path]) -> None:
    fleet = NodeFleet(folders[:1])
    fleet.close()
    fleet.close()
    assert processes_about(tmp_path) == {}


def test_an_error_while_nodes_run_leaves_none(tmp_path: Path, folders: list[Path]) -> None:
    with pytest.raises(ZeroDivisionError), NodeFleet(folders[:2]):
        raise ZeroDivisionError
    assert processes_about(tmp_path) == {}


def test_a_node_that_cannot_start_is_named_with_what_it_said(tmp_path: Path, folders: list[Path]) -> None:
    (folders[1] / "manifest.json").write_text("{", encoding="utf-8")
    with pytest.raises(MeshError, match=r"node 1 did not start: /.*manifest\.json is damaged"):
        NodeFleet(folders[:2])
    assert processes_about(tmp_path) == {}


def test_a_fleet_without_a_node_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"^folders is \[\]; expected at least one client's folder$"):
        NodeFleet([])


def test_a_folder_twice_is_refused_before_a_node_starts(tmp_path: Path, folders: list[Path]) -> None:
    again = folders[0] / ".." / folders[0].name
    with pytest.raises(
        InvalidInputError, match=r"^folders is .*; expected every folder once: a node has one"
    ):
        NodeFleet([folders[0], folders[1], again])
    assert processes_about(tmp_path) == {}


def test_nodes_that_are_not_ready_in_time_are_given_up(tmp_path: Path, folders: list[Path]) -> None:
    with pytest.raises(MeshError, match=r"node 0 did not start: it said nothing"):
        NodeFleet(folders[:2], start_timeout_s=0.01)
    assert processes_about(tmp_path) == {}


OWNER = """
import sys
from pathlib import Path
from airmoe.mesh.fleet import NodeFleet
fleet = NodeFleet([Path(folder) for folder in sys.argv[1:]])
print("ready", flush=True)
sys.stdin.read()
"""


def test_nodes_do_not_outlive_an_owner_that_was_killed(tmp_path: Path, folders: list[Path]) -> None:
    command = [sys.executable, "-c", OWNER, *map(str, folders[:2])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        try:
            assert owner.stdout is not None
            assert owner.stdout.readline() == "ready\n"
            assert len(processes_about(tmp_path)) == 3
        finally:
            owner.kill()
    assert left_after(tmp_path) == {}
