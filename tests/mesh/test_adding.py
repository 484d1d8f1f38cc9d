"""Nodes that hold no expert yet get identities, and later the experts of a model: all of it or nothing."""

import datetime
import shutil
from pathlib import Path

import pytest

from airmoe.errors import AddressError, IdentityError, InvalidInputError, RunFolderError
from airmoe.manifest import MANIFEST, read_manifest
from airmoe.mesh.adding import add_model, add_nodes
from airmoe.mesh.authority import Authority, make_authority
from airmoe.mesh.identity import IDENTITY, read_identity
from airmoe.mesh.issuing import remove
from airmoe.mesh.roster import members_of, write_roster
from airmoe.runfolder import client_folders
from tests.system.commands import all_under


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path / "authority")


def test_nodes_get_identities_of_one_roster_without_experts(authority: Authority, tmp_path: Path) -> None:
    addresses = {3: ["10.0.0.3:7447"]}
    roster = add_nodes(authority, tmp_path / "nodes", [3, 0], addresses=addresses, days=5)
    assert (roster.number, roster.mesh, [member.node for member in roster.members]) == (1, "lab", [0, 3])
    for node in (0, 3):
        identity = read_identity(tmp_path / "nodes" / f"{node:02d}" / IDENTITY)
        assert (identity.node, identity.roster, identity.member.serves) == (node, roster, [])
        left = identity.ends - datetime.datetime.now(datetime.UTC)
        assert datetime.timedelta(days=4) < left <= datetime.timedelta(days=5)
        assert identity.folder.stat().st_mode & 0o777 == 0o700
    assert [each.node for each in authority.issued()] == [0, 3]


def test_further_nodes_are_added_to_the_mesh_that_there_is(authority: Authority, tmp_path: Path) -> None:
    add_nodes(authority, tmp_path / "nodes", [0], "mine")
    roster = add_nodes(authority, tmp_path / "nodes", [1])
    assert (roster.number, roster.mesh, len(roster.members)) == (2, "mine", 2)
    with pytest.raises(InvalidInputError, match=r"mesh is 'other'; expected that of the .* roster, mine"):
        add_nodes(authority, tmp_path / "nodes", [2], "other")


@pytest.mark.parametrize(
    ("nodes", "addresses", "error", "told"),
    [
        ([], {}, InvalidInputError, "nodes is"),
        ([1, 1], {}, InvalidInputError, "each once"),
        ([1024], {}, InvalidInputError, "from 0 to 1023"),
        ([1], {2: ["10.0.0.2:7447"]}, InvalidInputError, "node of --address is 2; expected one of 1"),
        ([1], {1: ["10.0.0.1"]}, AddressError, "HOST:PORT"),
        ([1], {1: ["10.0.0.9:7447"]}, AddressError, "that of node 0, too"),
        ([0, 1], {}, InvalidInputError, "expected one without 00 in it"),
    ],
)
def test_what_cannot_be_added_leaves_nothing_behind(
    authority: Authority,
    tmp_path: Path,
    nodes: list[int],
    addresses: dict[int, list[str]],
    error: type[Exception],
    told: str,
) -> None:
    add_nodes(authority, tmp_path / "nodes", [0], addresses={0: ["10.0.0.9:7447"]})
    before = all_under(tmp_path)
    with pytest.raises(error, match=told):
        add_nodes(authority, tmp_path / "nodes", nodes, addresses=addresses)
    assert all_under(tmp_path) == before


def test_a_failure_in_the_middle_leaves_nothing_behind(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nodes").mkdir()
    before = all_under(tmp_path)

    def full(roster: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(authority, "keep", full)
    with pytest.raises(OSError, match="the disk is full"):
        add_nodes(authority, tmp_path / "nodes", [0, 1])
    (tmp_path / "authority" / "issued.jsonl").unlink()  # its lines were taken back
    assert all_under(tmp_path) == before


def test_a_removed_node_gets_nothing_while_its_certificate_holds(
    authority: Authority, tmp_path: Path
) -> None:
    add_nodes(authority, tmp_path / "nodes", [0, 1])
    remove(authority, 1)
    with pytest.raises(IdentityError, match="node 1 was removed, and its certificate holds until"):
        add_nodes(authority, tmp_path / "again", [1])


def test_nodes_may_serve_a_model_that_was_trained_since(
    authority: Authority, run_folder: Path, tmp_path: Path
) -> None:
    manifest = read_manifest(client_folders(run_folder)[2])
    added = add_nodes(authority, tmp_path / "nodes", range(4), addresses={1: ["10.0.0.1:7447"]})
    (tmp_path / "sent").mkdir()
    shutil.copy(client_folders(run_folder)[2] / MANIFEST, tmp_path / "sent")
    roster = add_model(authority, tmp_path / "sent")
    assert roster.number == added.number + 1
    assert [member.serves for member in roster.members] == [each.serves for each in members_of(manifest)]
    assert roster.addresses == ["10.0.0.1:7447"]
    files = tmp_path / "nodes" / "02" / IDENTITY
    with pytest.raises(IdentityError, match="does not let node-2 serve"):
        read_identity(files).refuse_other(manifest)
    signed = authority.roster()
    assert signed is not None
    write_roster(files / "roster.json", signed)
    read_identity(files).refuse_other(manifest)


def test_a_removed_node_of_a_model_stays_out_only_if_that_is_said(
    authority: Authority, run_folder: Path, tmp_path: Path
) -> None:
    add_nodes(authority, tmp_path / "nodes", range(4))
    remove(authority, 3)
    with pytest.raises(IdentityError, match="--without 3"):
        add_model(authority, client_folders(run_folder)[0])
    roster = add_model(authority, client_folders(run_folder)[0], without=[3])
    assert [member.node for member in roster.members] == [0, 1, 2]


def test_a_folder_without_a_manifest_is_refused(authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=MANIFEST):
        add_model(authority, tmp_path)
