"""Who may come to a SuperLink with an identity: by certificate, roster and key, each looked at anew."""

import asyncio
import base64
import logging
import shutil
import ssl
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("flwr", reason="needs airmoe[flower]")

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from airmoe.errors import IdentityError
from airmoe.federated.flower.members import COMES, FLEET, MOST_LETTERS, Members, MembersOnly
from airmoe.federated.flower.supernode import CERTIFICATE_HEADER
from airmoe.mesh.adding import add_nodes
from airmoe.mesh.authority import Authority, make_authority
from airmoe.mesh.credentials import read_key
from airmoe.mesh.identity import CERTIFICATE, IDENTITY, KEY, ROSTER, read_identity
from airmoe.mesh.issuing import remove
from airmoe.mesh.roster import SignedRoster, read_roster, write_roster
from tests.mesh.identities import dated, write_pair


class Mesh:
    """An authority and three nodes without experts; node 0 runs the SuperLink."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority: Authority = make_authority(folder / "authority")
        add_nodes(self.authority, folder / "nodes", [0, 1, 2])
        self.members = Members(read_identity(self.files(0)))

    def files(self, node: int) -> Path:
        return self.folder / "nodes" / f"{node:02d}" / IDENTITY

    def bring(self, roster: SignedRoster) -> None:
        write_roster(self.files(0) / ROSTER, roster)


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    return Mesh(tmp_path)


def certificate_in(folder: Path) -> str:
    der = ssl.PEM_cert_to_DER_cert((folder / CERTIFICATE).read_text())
    return base64.b64encode(der).decode()


def key_in(folder: Path) -> str:
    public = read_key(folder / KEY).public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(pem).decode()


def refusal(members: Members, folder: Path) -> str:
    with pytest.raises(IdentityError) as refused:
        members.admitted(certificate_in(folder), key_in(folder))
    return str(refused.value)


def test_a_member_comes_as_the_client_of_its_number(mesh: Mesh) -> None:
    client, key = mesh.members.admitted(certificate_in(mesh.files(2)), key_in(mesh.files(2)))
    assert client == 2
    assert base64.b64encode(key).decode() == key_in(mesh.files(2))


def test_a_certificate_of_another_authority_is_refused_though_its_name_is_right(
    mesh: Mesh, tmp_path: Path
) -> None:
    add_nodes(make_authority(tmp_path / "other"), tmp_path / "others", [1])
    told = refusal(mesh.members, tmp_path / "others" / "01" / IDENTITY)
    assert told == "its certificate was issued by another authority"


def test_a_certificate_that_is_over_is_refused(mesh: Mesh, tmp_path: Path) -> None:
    over = write_pair(tmp_path / "over", *dated(mesh.authority, "node-1", -100.0, -50.0))
    assert refusal(mesh.members, over).startswith("the certificate of node-1 held until ")


def test_a_certificate_whose_name_is_no_member_is_refused(mesh: Mesh, tmp_path: Path) -> None:
    for name in ("node-7", "airmoe"):
        other = write_pair(tmp_path / name, *dated(mesh.authority, name, -100.0, 100.0))
        assert refusal(mesh.members, other) == f"roster 1 does not have {name}"


def test_whoever_has_seen_a_certificate_cannot_come_with_it_and_a_key_of_his_own(mesh: Mesh) -> None:
    with pytest.raises(IdentityError, match="another key than that of the certificate of node-1"):
        mesh.members.admitted(certificate_in(mesh.files(1)), key_in(mesh.files(2)))


@pytest.mark.parametrize("letters", ["x", "é", base64.b64encode(b"x").decode(), "A" * (MOST_LETTERS + 4)])
def test_what_is_no_certificate_is_refused(mesh: Mesh, letters: str) -> None:
    with pytest.raises(IdentityError, match="is no certificate of a node"):
        mesh.members.admitted(letters, key_in(mesh.files(1)))


def test_a_roster_that_replaces_the_file_holds_at_once(mesh: Mesh) -> None:
    remove(mesh.authority, 2)
    mesh.members.admitted(certificate_in(mesh.files(2)), key_in(mesh.files(2)))
    newer = mesh.authority.roster()
    assert newer is not None
    mesh.bring(newer)
    assert refusal(mesh.members, mesh.files(2)) == "roster 2 does not have node-2"
    mesh.members.admitted(certificate_in(mesh.files(1)), key_in(mesh.files(1)))


def test_an_older_roster_a_forged_one_and_none_change_nothing(
    mesh: Mesh, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = read_roster(mesh.files(0) / ROSTER)
    remove(mesh.authority, 2)
    newer = mesh.authority.roster()
    assert newer is not None
    mesh.bring(newer)
    assert mesh.members.roster.number == 2
    other = make_authority(tmp_path / "other")
    mesh.bring(first)
    assert mesh.members.roster.number == 2
    mesh.bring(other.sign(first.roster.model_copy(update={"number": 9})))
    assert mesh.members.roster.number == 2
    mesh.bring(mesh.authority.sign(first.roster.model_copy(update={"number": 9, "mesh": "other"})))
    assert mesh.members.roster.number == 2
    (mesh.files(0) / ROSTER).unlink()
    assert mesh.members.roster.number == 2
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [each.endswith("; goes on with roster 2") for each in told] == [True] * 4
    for each, why in zip(told, ("is older", "signature", "expected 'lab'", "cannot read"), strict=True):
        assert why in each


def asked(mesh: Mesh, path: str, *headers: tuple[str, str]) -> tuple[int, bytes, list[tuple[int, bytes]]]:
    """Status and body of the answer to a request, and what was registered; 200 is that of Flower."""
    sent: list[dict[str, Any]] = []
    registered: list[tuple[int, bytes]] = []

    async def flower(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"Flower"})

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> None: ...

    app = MembersOnly(flower, mesh.members, lambda client, key: registered.append((client, key)))
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    scope = {"type": "http", "path": path, "headers": raw, "client": ("127.0.0.9", 9)}
    for _ in range(2):  # the second time nothing is logged
        sent.clear()
        asyncio.run(app(scope, receive, send))
    return sent[0]["status"], sent[1]["body"], registered


def headers_of(mesh: Mesh, node: int) -> list[tuple[str, str]]:
    folder = mesh.files(node)
    return [(CERTIFICATE_HEADER, certificate_in(folder)), ("flwr-public-key", key_in(folder))]


def test_flower_hears_of_members_alone_and_keys_are_registered_when_they_come(
    mesh: Mesh, caplog: pytest.LogCaptureFixture
) -> None:
    assert asked(mesh, f"{FLEET}pull-messages", *headers_of(mesh, 1)) == (200, b"Flower", [])
    status, body, registered = asked(mesh, COMES, *headers_of(mesh, 1))
    assert (status, body, [client for client, _ in registered]) == (200, b"Flower", [1, 1])
    assert base64.b64encode(registered[0][1]).decode() == key_in(mesh.files(1))
    assert asked(mesh, "/v1/control/list-nodes") == (200, b"Flower", [])  # closed by the token
    assert caplog.text == ""


def test_a_node_without_a_certificate_is_refused_and_the_log_says_so_once(
    mesh: Mesh, caplog: pytest.LogCaptureFixture
) -> None:
    status, body, registered = asked(mesh, COMES, *headers_of(mesh, 1)[1:])
    assert (status, registered) == (401, [])
    assert b"it sent no certificate" in body
    (record,) = caplog.records
    assert record.getMessage().startswith("a node at 127.0.0.9 is refused: it sent no certificate; ")


def test_two_keys_in_a_request_are_refused_for_flower_would_read_the_other_one(mesh: Mesh) -> None:
    removed, member = headers_of(mesh, 2), headers_of(mesh, 1)
    status, body, registered = asked(mesh, COMES, member[0], removed[1], member[1])
    assert (status, registered) == (401, [])
    assert b"flwr-public-key twice" in body
    assert asked(mesh, COMES, removed[0], *member)[0] == 401


def test_the_file_of_another_authority_beside_a_running_superlink_changes_nothing(mesh: Mesh) -> None:
    other = Mesh(mesh.folder / "other")
    shutil.copy(other.files(0) / "authority.pem", mesh.files(0) / "authority.pem")
    assert refusal(mesh.members, other.files(1)) == "its certificate was issued by another authority"
