"""``airmoe links`` measures the links to real nodes, and ``predict --links measured`` goes by them."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from airmoe.mesh.fleet import NodeFleet
from airmoe.runfolder import client_folders
from tests.system.commands import ended_in_fork


@pytest.fixture(scope="module")
def folders(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    copy = tmp_path_factory.mktemp("links") / "run"
    shutil.copytree(run_folder, copy, ignore=shutil.ignore_patterns("identities"))
    return client_folders(copy)


@pytest.fixture(scope="module")
def fleet(folders: list[Path]) -> Iterator[NodeFleet]:
    with NodeFleet(folders) as made:
        yield made


def links(folders: list[Path], fleet: NodeFleet, *more: object) -> tuple[int, list[str]]:
    options = "--connect", fleet.addresses[0], "--timeout-s", 30, *more
    done = ended_in_fork("links", folders[0], *options, cwd=folders[0])
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout.splitlines()


def test_all_links_are_measured(folders: list[Path], fleet: NodeFleet) -> None:
    code, lines = links(folders, fleet)
    assert code == 0
    assert [line.partition(":")[0] for line in lines[:3]] == ["node 1", "node 2", "node 3"]
    assert all(" ms, " in line and "Mbit/s" in line for line in lines[:3])
    assert lines[-1].startswith("mutual TLS as node-0, one of 4")
    code, lines = links(folders, fleet, "--json")
    assert code == 0
    measured = [json.loads(line) for line in lines]
    assert [each["node"] for each in measured] == [1, 2, 3]
    assert all(each["rate_bps"] > 1e6 and each["messages"] == 3 for each in measured)


def test_an_image_is_asked_about_over_the_links_as_measured(
    folders: list[Path], fleet: NodeFleet, tmp_path: Path
) -> None:
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(tmp_path / "black.png")
    options = "--client", folders[0], "--connect", fleet.addresses[0], "--links", "measured", "--deadline", 30
    done = ended_in_fork("predict", tmp_path / "black.png", *options, "--json", cwd=folders[0])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["label"] is not None
    told = ended_in_fork("predict", tmp_path / "black.png", *options, cwd=folders[0])
    assert "µJ over links as measured, at the power of the run's radio" in told.stdout
    refused = ended_in_fork(
        "predict", tmp_path / "black.png", *options, "--policy", "jesa:0.5:2", cwd=folders[0]
    )
    assert refused.returncode == 2
    assert "a client measures its own links alone" in refused.stderr


def test_a_node_that_is_gone_is_status_1_and_named(folders: list[Path], fleet: NodeFleet) -> None:
    fleet.kill(2)
    code, lines = links(folders, fleet, "--timeout-s", 5)
    assert code == 1
    assert lines[1] == "node 2: no answer"
