"""Experts of many layers in the folders of nodes."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from airmoe.errors import InvalidInputError
from airmoe.language.transformer import SwiGlu
from airmoe.manifest import RadioSpec, experts_in_words, read_manifest
from airmoe.mesh.networks import expert_of
from airmoe.runfolder import client_folders
from airmoe.runs.export_layers import export_layers

RADIO = RadioSpec(seed=0)
PLACEMENT = [[0], [1], [0, 1]]


def layers(count: int = 2, experts: int = 3) -> list[list[nn.Module]]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return [[SwiGlu(8, 12) for _ in range(experts)] for _ in range(count)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("layers")
    export_layers(folder, layers(), 8, radio=RADIO, placement=PLACEMENT)
    return folder


def test_every_node_has_its_experts_of_every_layer(run: Path) -> None:
    hidden_TW = torch.randn(7, 8)
    for node, folder in enumerate(client_folders(run)):
        manifest = read_manifest(folder)
        assert manifest.node == node
        held = {
            (layer, expert) for layer in (1, 2) for expert, nodes in enumerate(PLACEMENT) if node in nodes
        }
        assert {(each.layer, each.expert) for each in manifest.serves} == held
        for each in manifest.serves:
            network = expert_of(folder, manifest, each)
            expected = layers()[each.layer - 1][each.expert](hidden_TW).detach().numpy()
            np.testing.assert_allclose(network(hidden_TW.numpy()), expected, atol=1e-6)
    assert experts_in_words(manifest.serves) == "experts 1, 2 of 2 layers"


def test_folders_of_one_model_agree_and_of_another_do_not(run: Path, tmp_path: Path) -> None:
    one, other = (read_manifest(folder) for folder in client_folders(run))
    assert one.model_hash == other.model_hash
    changed = layers()
    with torch.no_grad():
        changed[1][2].down.weight[0, 0] += 1  # type: ignore[union-attr, operator]
    export_layers(tmp_path, changed, 8, radio=RADIO, placement=PLACEMENT)
    assert read_manifest(client_folders(tmp_path)[0]).model_hash != one.model_hash


def test_files_of_a_source_are_in_every_folder_and_in_the_hash(run: Path, tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"weights")
    export_layers(
        tmp_path,
        layers(),
        8,
        radio=RADIO,
        placement=PLACEMENT,
        source_files={"source.bin": tmp_path / "weights"},
    )
    for folder in client_folders(tmp_path):
        manifest = read_manifest(folder)
        assert manifest.source is not None
        assert manifest.source.files == ["source.bin"]
        assert manifest.sha256["source.bin"] == hashlib.sha256(b"weights").hexdigest()
        assert (folder / "source.bin").read_bytes() == b"weights"
    assert manifest.model_hash != read_manifest(client_folders(run)[0]).model_hash


def test_a_server_is_a_node_after_the_others(tmp_path: Path) -> None:
    export_layers(tmp_path, layers(), 8, radio=RADIO, placement=PLACEMENT, server=True)
    server = read_manifest(tmp_path / "clients" / "server")
    assert (server.node, server.nodes, server.serves) == (2, 3, [])
    assert server.layers_asked == [1, 2]
    for folder in client_folders(tmp_path):
        assert read_manifest(folder).layers_asked == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"layers": []}, "experts of layers"),
        ({"layers": [*layers(1), *layers(1, 2)]}, r"experts of layers is \[3, 2\]"),
        ({"placement": [[0], [1]]}, "for each of 3 experts"),
        ({"placement": [[0], [1], []]}, "for each of 3 experts"),
        ({"placement": [[0], [1], [-1]]}, "for each of 3 experts"),
        ({"mesh": "No Name"}, "mesh is 'No Name'"),
        ({"radio": None}, "radio is"),
        ({"width": 9}, "shape|inputs"),
        ({"server": True, "placement": [[0], [2], [2]]}, "an expert at each"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_left(
    tmp_path: Path, changes: dict[str, object], told: str
) -> None:
    given = {"layers": layers(), "width": 8, "radio": RADIO, "placement": PLACEMENT} | changes
    with pytest.raises(InvalidInputError, match=told):
        export_layers(tmp_path / "run", **given)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_folder_with_clients_is_left_alone(run: Path) -> None:
    before = sorted(run.rglob("*"))
    with pytest.raises(InvalidInputError, match="one without clients/ in it"):
        export_layers(run, layers(), 8, radio=RADIO, placement=PLACEMENT)
    assert sorted(run.rglob("*")) == before
