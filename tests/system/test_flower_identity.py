"""Federated training by the certificates of a mesh: who is refused, and one authority for all of it."""

import os
import re
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("flwr", reason="needs airmoe[flower]")

import flwr
import httpx

from airmoe.data import ImageSet
from airmoe.federated.flower import supernode
from airmoe.federated.flower.keys import make_node_key
from airmoe.federated.flower.lab import Lab
from airmoe.federated.flower.quiet import environment
from airmoe.mesh.adding import add_model, add_nodes
from airmoe.mesh.authority import Authority, make_authority
from airmoe.mesh.identity import IDENTITY, ROSTER
from airmoe.mesh.issuing import remove
from airmoe.networked.export_apart import FOLDER
from airmoe.networked.flower import SETTINGS
from airmoe.runfolder import sha256_of
from tests.mesh.ports import free_address
from tests.system.commands import AIRMOE_CORE, Command, ended, left_after, running

if any(letter.isspace() for letter in flwr.__file__):
    pytest.skip("Flower runs no SuperLink from a folder with a space", allow_module_level=True)

APP, NOWHERE = "airmoe.networked.flower", "airmoe.nowhere:nothing"
SHORT = """
[data]
clients = 3
[features]
rounds = 1
[experts]
epochs = 1
[gate]
rounds = 1
"""


@dataclass
class Mesh:
    """An authority, and identities of three nodes, the first of which has an address."""

    folder: Path
    authority: Authority
    addresses: list[str]

    def files(self, node: int) -> Path:
        return self.folder / "nodes" / f"{node:02d}" / IDENTITY

    def bring_roster(self, *nodes: int) -> None:
        """Copy the authority's roster to nodes, as their owners would."""
        for node in nodes:
            shutil.copy(self.folder / "authority" / ROSTER, self.files(node) / ROSTER)


def mesh_in(folder: Path) -> Mesh:
    addresses = [free_address() for _ in range(3)]
    mesh = Mesh(folder, make_authority(folder / "authority"), addresses)
    told = {node: [address] for node, address in enumerate(addresses)}
    add_nodes(mesh.authority, folder / "nodes", range(3), addresses=told)
    return mesh


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Mesh:
    return mesh_in(tmp_path_factory.mktemp("mesh"))


@pytest.fixture(scope="module")
def lab(mesh: Mesh) -> Iterator[Lab]:
    """A SuperLink with the identity of node 0, whose roster does not name node 2; no nodes."""
    remove(mesh.authority, 2)
    mesh.bring_roster(0)
    apps = NOWHERE, NOWHERE, NOWHERE
    with Lab(mesh.folder / "lab", 0, *apps, {"rounds": 1}, [mesh.files(node) for node in range(3)]) as lab:
        yield lab


@contextmanager
def node_of(lab: Lab, identity: Path, folder: Path) -> Iterator[Command]:
    """A node that comes with an identity, and takes part in nothing."""
    words = "flower", "node", "--superlink", lab.address, "--identity", identity, "--folder", folder
    with running(*words, "--participant", "builtins:dict") as node:
        yield node


def test_a_node_that_the_roster_does_not_name_is_refused_by_name(
    lab: Lab, mesh: Mesh, tmp_path: Path
) -> None:
    with node_of(lab, mesh.files(2), tmp_path / "node") as node:
        assert node.wait() == 2
    assert "the SuperLink refuses this node: roster 2 does not have node-2" in node.output
    assert re.search(
        "^airmoe: the SuperNode ended with status .*; the lines above say why$", node.output, re.M
    )
    log = lab.log("superlink").read_text()
    assert "a node at 127.0.0.1 is refused: roster 2 does not have node-2" in log
    assert "registered the key of client 2" not in log
    assert left_after(tmp_path) == {}


def test_a_node_of_another_authority_does_not_speak_to_it(lab: Lab, tmp_path: Path) -> None:
    other = mesh_in(tmp_path / "other")
    with node_of(lab, other.files(1), tmp_path / "node") as node:
        assert node.wait() == 2
    told = f"airmoe: the SuperLink at {lab.address} shows a certificate that is refused here: "
    assert node.output.startswith(told)
    assert len(node.output.splitlines()) == 1


def test_what_is_no_superlink_is_refused(mesh: Mesh, tmp_path: Path) -> None:
    address = free_address()
    words = "-m", "http.server", address.rpartition(":")[2], "--bind", "127.0.0.1"
    with subprocess.Popen(
        [sys.executable, *words], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as other:
        try:
            told = ""
            while not told:  # until it listens, the node waits for it
                done = ended(
                    *("flower", "node", "--superlink", address, "--identity", mesh.files(1)),
                    *("--folder", tmp_path / "node", "--participant", "builtins:dict"),
                )
                told = done.stderr
        finally:
            other.kill()
    assert f"what listens at {address} does not speak TLS: it is no SuperLink" in told


@pytest.mark.long
def test_a_supernode_of_another_authority_that_trusts_this_one_is_refused(
    lab: Lab, mesh: Mesh, tmp_path: Path
) -> None:
    """It runs Flower's own part past the checks of ``airmoe flower node``."""
    other = mesh_in(tmp_path / "other")
    make_node_key(tmp_path / "node.key")
    for certificate, told in (
        (other.files(1) / "node.pem", "its certificate was issued by another authority"),
        (mesh.files(1) / "node.pem", "it signs with another key than that of the certificate of node-1"),
        ("", "it sent no certificate"),
    ):
        words = [
            *(sys.executable, "-P", supernode.__file__, str(os.getpid()), str(certificate)),
            *("--superlink", lab.address, "--root-certificates", str(lab.authority)),
            *("--auth-supernode-private-key", str(tmp_path / "node.key")),
            *("--isolation", "process", "--port", free_address().rpartition(":")[2]),
        ]
        done = subprocess.run(
            words,
            env=environment(tmp_path / "home"),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert "SuperNode ID" not in done.stdout + done.stderr
        assert f"a node at 127.0.0.1 is refused: {told}" in lab.log("superlink").read_text()
        assert not certificate or f"the SuperLink refuses this node: {told}" in done.stderr


@pytest.mark.long
def test_a_member_comes_without_being_registered_and_leaves_when_it_is_removed(tmp_path: Path) -> None:
    mesh = mesh_in(tmp_path / "mesh")
    identities = [mesh.files(node) for node in range(3)]
    with (
        Lab(tmp_path / "lab", 0, NOWHERE, NOWHERE, NOWHERE, {"rounds": 1}, identities) as lab,
        node_of(lab, mesh.files(1), tmp_path / "node") as node,
    ):
        log = lab.log("superlink")
        node.wait_until(lambda: "Activated node_id" in log.read_text())
        assert "registered the key of client 1" in log.read_text()
        remove(mesh.authority, 1)
        mesh.bring_roster(0)
        assert node.wait() == 2
        assert "the SuperLink refuses this node: roster 2 does not have node-1" in node.output
    assert left_after(tmp_path) == {}


def test_strangers_are_let_in_nowhere_though_there_is_no_authority_of_flowers(lab: Lab) -> None:
    trust = ssl.create_default_context(cafile=str(lab.authority))
    protobuf = {"content-type": "application/protobuf", "accept": "application/protobuf"}
    with httpx.Client(verify=trust, headers=protobuf) as client:
        paths = client.get(f"https://{lab.address}/openapi.json").json()["paths"]
        status = {path: client.post(f"https://{lab.address}{path}").status_code for path in paths}
    fleet = {path: code for path, code in status.items() if path.startswith("/v1/fleet/")}
    assert len(fleet) > 8
    assert set(fleet.values()) == {401}
    assert status["/v1/control/register-node"] == 401


@pytest.mark.long
@pytest.mark.timeout(1200)  # three nodes train and serve, on two cores
def test_one_authority_is_enough_from_the_first_training_to_serving(digits: ImageSet, tmp_path: Path) -> None:
    """Nodes get identities, train a round, get the experts of the model into the roster, and serve it."""
    mesh, settings, out = mesh_in(tmp_path / "mesh"), tmp_path / "short.toml", tmp_path / "out"
    settings.write_text(SHORT)
    identities = [mesh.files(node) for node in range(3)]
    with Lab(tmp_path / "lab", 3, f"{APP}:server", f"{APP}:client", None, SETTINGS, identities) as lab:
        told = {"config": str(settings), "out": str(out), "minimum": 3, "timeout_s": 120.0}
        run = Command(lab.begin_run(told))
        run.wait(500.0)
        assert out.exists(), run.output
        keys = {sha256_of(mesh.files(node) / "node.key") for node in range(3)}
        written = [path for path in (tmp_path / "lab").rglob("*") if path.is_file()]
        assert not keys & {sha256_of(path) for path in written}
        assert not [path for path in written if b"PRIVATE KEY" in path.read_bytes()]
    assert left_after(tmp_path) == {}
    folders = [next((lab.folder / f"node-{node}" / "runs").iterdir()) / FOLDER for node in range(3)]
    add_model(mesh.authority, folders[1])
    mesh.bring_roster(0, 1, 2)
    Image.fromarray(digits.test_images[digits.test_labels == 4][0, 0]).save(tmp_path / "four.png")
    with ExitStack() as open_:
        for node, folder in enumerate(folders):
            words = "serve", folder, "--identity", mesh.files(node)
            open_.enter_context(running(*words, program=AIRMOE_CORE)).wait_for_line("serving expert")
        words = "predict", tmp_path / "four.png", "--client", folders[0], "--identity", mesh.files(0)
        asked = ended(*words, program=AIRMOE_CORE)
    assert (asked.returncode, asked.stderr) == (0, ""), asked
