"""Why no node is found: a wrong port, what listens is no node, another model."""

import socket
from pathlib import Path

import pytest

from airmoe.errors import NoNodeReachableError
from airmoe.manifest import read_manifest, write_manifest
from airmoe.mesh import MeshClient, Node
from tests.mesh.ports import free_address


def told_of(client_folder: Path, address: str) -> str:
    with MeshClient(client_folder, [address]) as client:
        with pytest.raises(NoNodeReachableError) as raised:
            client.wait_for_nodes(timeout_s=1.0)
        return str(raised.value)


@pytest.fixture
def folder(run_folder: Path) -> Path:
    return run_folder / "clients" / "00"


def test_a_port_at_which_nothing_listens_is_named(folder: Path) -> None:
    address = free_address()
    assert f"nothing listens at {address}" in told_of(folder, address)


def test_what_listens_and_is_no_node_is_told(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert f"something listens at {address}, and no node there is alive" in told_of(folder, address)


def test_nodes_of_another_model_are_told(folder: Path, run_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "01"
    other.mkdir()
    for file in (run_folder / "clients" / "01").iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    write_manifest(other, read_manifest(other).model_copy(update={"model_hash": "0123456789abcdef"}))
    address = free_address()
    with Node(other, address):
        assert "are of mesh 'lab', model 0123456789abcdef" in told_of(folder, address)
