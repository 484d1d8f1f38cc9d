"""Run folders that a test may damage, and meshes of real processes."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from airmoe.data import ImageSet
from airmoe.runfolder import Manifest, client_folders, read_manifest
from tests.mesh.ports import free_address
from tests.mesh.processes import NodeProcess, node_processes


@pytest.fixture(scope="session")
def folders(run_folder: Path) -> list[Path]:
    """The four clients' folders."""
    return client_folders(run_folder)


@pytest.fixture(scope="session")
def manifest(folders: list[Path]) -> Manifest:
    """The manifest of client 0."""
    return read_manifest(folders[0])


@pytest.fixture
def own_copy(run_folder: Path, tmp_path: Path) -> Path:
    """A copy of client 0's folder, with ``shared/`` where it belongs."""
    shutil.copytree(run_folder, tmp_path / "copy")
    return client_folders(tmp_path / "copy")[0]


@pytest.fixture(scope="session")
def images(digits: ImageSet) -> NDArray[np.uint8]:
    """64 held-out digits."""
    return digits.test_images[:64]


@pytest.fixture
def address() -> str:
    """An address nobody uses."""
    return free_address()


@pytest.fixture
def remote_nodes(folders: list[Path]) -> Iterator[list[NodeProcess]]:
    """Processes that serve experts 1, 2 and 3; the first is the seed. A test may kill them."""
    with node_processes(folders[1:], [free_address() for _ in folders[1:]]) as processes:
        yield processes
