"""``airmoe status``: every expert is asked for real, and the exit status is what it says."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from airmoe.mesh.fleet import NodeFleet
from airmoe.runfolder import client_folders
from tests.system.commands import ended_in_fork


@pytest.fixture
def folders(run_folder: Path, tmp_path: Path) -> list[Path]:
    shutil.copytree(run_folder, tmp_path / "run", ignore=shutil.ignore_patterns("identities"))
    return client_folders(tmp_path / "run")


@pytest.fixture
def fleet(folders: list[Path]) -> Iterator[NodeFleet]:
    with NodeFleet(folders) as made:
        yield made


def status(folders: list[Path], fleet: NodeFleet, *more: object) -> tuple[int, list[str]]:
    options = "--connect", fleet.addresses[0], "--timeout-s", 30, *more
    done = ended_in_fork("status", folders[0], *options, cwd=folders[0])
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout.splitlines()


def test_all_well_is_status_0_and_a_killed_or_frozen_node_is_1_and_named(
    folders: list[Path], fleet: NodeFleet
) -> None:
    code, lines = status(folders, fleet)
    assert code == 0
    assert [line.partition(",")[0] for line in lines[:4]] == [
        f"node {node}: 1 of 1 experts answer" for node in range(4)
    ]
    assert lines[4] == "4 of 4 answer"
    assert lines[5].startswith("mutual TLS as node-0, one of 4")
    fleet.kill(2)
    code, lines = status(folders, fleet, "--timeout-s", 5)
    assert code == 1
    assert lines[2:4] == ["node 2: 0 of 1 experts answer", "  expert 2 of layer 1: not alive"]
    assert lines[5] == "3 of 4 answer"
    fleet.freeze(3)
    code, lines = status(folders, fleet, "--timeout-s", 1.2, "--json")
    assert code == 1
    heard = {told["node"]: told for told in map(json.loads, lines)}
    assert heard[0]["heard"] == heard[1]["heard"] == "answers"
    assert 0 < heard[1]["seconds"] < 5
    assert heard[2]["heard"] == "not alive"
    assert heard[3]["heard"] in ("silent", "not alive"), "its lease may be over"


def test_nobody_there_is_status_1_and_a_wrong_input_2(folders: list[Path]) -> None:
    nobody = ended_in_fork(
        "status", folders[0], "--connect", "127.0.0.1:9", "--timeout-s", 0.3, cwd=folders[0]
    )
    assert (nobody.returncode, nobody.stdout.splitlines()[-2]) == (1, "0 of 4 answer")
    for words, said in (
        (("--connect", "127.0.0.1:9", "--timeout-s", "-1"), "timeout_s is -1"),
        ((), "expected --connect HOST:PORT of a node"),
    ):
        wrong = ended_in_fork("status", folders[0], *words, cwd=folders[0])
        assert wrong.returncode == 2
        assert said in wrong.stderr
