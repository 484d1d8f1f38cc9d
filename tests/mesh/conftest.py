"""Run folders that a test may damage, and meshes of real processes."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from airmoe.data import ImageSet
from airmoe.mesh import simulated_links
from airmoe.runfolder import Manifest, client_folders, read_manifest
from tests.mesh.ports import free_address
from tests.mesh.processes import NodeProcess, node_processes

if TYPE_CHECKING:
    from airmoe.nn import MixtureOfExperts


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


@pytest.fixture(scope="module")
def model(run_folder: Path, folders: list[Path], manifest: Manifest) -> "MixtureOfExperts":
    """The run's safetensors in PyTorch, over the run's simulated radio."""
    pytest.importorskip("torch")
    from safetensors.torch import load_file

    from airmoe.nn import build_model
    from airmoe.nn.carriers import IdealRadioCarrier
    from airmoe.training import load_config

    settings = load_config(run_folder / "config.toml").model
    model = build_model(
        settings.backbone,
        classes=10,
        experts=4,
        channels=1,
        norm=settings.norm,
        expert_hidden=settings.expert_hidden,
    )
    model.extractor.load_state_dict(load_file(run_folder / "shared/extractor.safetensors"))
    model.gate.load_state_dict(load_file(run_folder / "shared/gate.safetensors"))
    for expert, folder in zip(model.experts, folders, strict=True):
        expert.load_state_dict(load_file(folder / "expert.safetensors"))
    model.carrier = IdealRadioCarrier(simulated_links(manifest.radio, 4))
    return model.eval()
