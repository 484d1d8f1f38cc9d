"""Run folders that a test may damage, and meshes of real processes."""

import logging
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from airmoe.data import ImageSet
from airmoe.manifest import Manifest, read_manifest
from airmoe.mesh import MeshClient, simulated_links
from airmoe.mesh.log import OneLineASecond, mesh_log
from airmoe.runfolder import client_folders
from tests.mesh.exported import ServerRun, load_model, make_server_run
from tests.mesh.ports import free_address
from tests.mesh.processes import NodeProcess, node_processes
from tests.mesh.steering import LONG_S

if TYPE_CHECKING:
    from airmoe.nn import MixtureOfExperts


@pytest.fixture(scope="session", autouse=True)
def patient_clients() -> Iterator[None]:
    """No client asks another expert beside a slow one unless its test says so: a busy machine is slow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MeshClient.__init__.__kwdefaults__, "hedge_s", LONG_S)
        yield


@pytest.fixture(autouse=True)
def log_of_its_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No line is held back because of what a test before said, and none comes in the test after it."""
    is_over = threading.Event()

    def emit(record: logging.LogRecord) -> None:
        if not is_over.is_set():
            mesh_log.callHandlers(record)

    monkeypatch.setattr(mesh_log, "filters", [OneLineASecond(emit)])
    yield
    is_over.set()


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
    """Client 0's folder in a copy of the run."""
    shutil.copytree(run_folder, tmp_path / "copy", ignore=shutil.ignore_patterns("identities"))
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


@pytest.fixture(scope="module")
def model(run_folder: Path, manifest: Manifest) -> "MixtureOfExperts":
    """The run's safetensors in PyTorch, over the run's simulated radio."""
    pytest.importorskip("torch")
    from airmoe.nn.carriers import IdealRadioCarrier

    model = load_model(run_folder)
    model.layer.carrier = IdealRadioCarrier(simulated_links(manifest.radio, 4))
    return model


@pytest.fixture(scope="session")
def server_run(run_folder: Path, tmp_path_factory: pytest.TempPathFactory, digits: ImageSet) -> ServerRun:
    """The run with a server that asks by a channel-aware gate."""
    pytest.importorskip("torch")
    return make_server_run(run_folder, tmp_path_factory.mktemp("served") / "run", digits)


@pytest.fixture(scope="session")
def expert_nodes(server_run: ServerRun) -> Iterator[list[NodeProcess]]:
    """Processes that serve the experts of the run with a server. Not to be killed."""
    with node_processes(server_run.experts, [free_address() for _ in server_run.experts]) as processes:
        yield processes
