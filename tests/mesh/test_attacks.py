"""Whoever does not belong to a mesh gets nothing from it; whoever does gets what the roster says."""

import logging
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import zenoh

from airmoe.errors import IdentityError
from airmoe.mesh import MeshClient, Node
from airmoe.mesh.authority import passing_authority
from airmoe.mesh.frame import Frame, Kind, encode
from airmoe.mesh.identity import AUTHORITY
from airmoe.mesh.keys import asked_key, link_key, report_key, reports_key
from airmoe.mesh.reports import NodeReport
from tests.mesh.identities import IssuedRun, dated, issued_run, raw_session, write_pair
from tests.mesh.steering import answer_to, prefer, wait_until

REFUSED_S = 1.0
"""How long whoever is refused goes on trying here."""


@pytest.fixture(scope="module")
def run(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> IssuedRun:
    return issued_run(run_folder, tmp_path_factory.mktemp("issued"))


@pytest.fixture(scope="module")
def nodes(run: IssuedRun) -> Iterator[list[Node]]:
    """Nodes 1 and 3; whoever is called node 2 here is hostile."""
    with ExitStack() as open_:
        yield [
            open_.enter_context(Node(run.folders[node], run.addresses[node], identity=run.identity(node)))
            for node in (1, 3)
        ]


def request(run: IssuedRun, node: int = 3) -> bytes:
    """A good request for the expert of a node."""
    manifest = run.manifest
    layer = manifest.layer(1)
    payload_T = np.zeros((1, *layer.payload), np.float32)
    place = 7, manifest.model_hash, 1, node, 2000
    return encode(Frame(Kind.PAYLOADS, {"payload": payload_T}, *place, expert_hash=layer.hashes[node]))


def replies(session: zenoh.Session, key: str, data: bytes, wait_s: float = REFUSED_S) -> list[zenoh.Reply]:
    return list(session.get(key, payload=data, timeout=wait_s, consolidation=zenoh.ConsolidationMode.NONE))


def served(session: zenoh.Session, run: IssuedRun, name: str) -> bool:
    """Whether an expert answers somebody who calls itself so."""
    return any(reply.ok for reply in replies(session, asked_key(run.key(3), name), request(run)))


def seen(session: zenoh.Session) -> list[str]:
    """Whatever somebody sees alive."""
    found = session.liveliness().get("**", timeout=REFUSED_S)
    return [str(reply.ok.key_expr) for reply in found if reply.ok is not None]


def no_certificate(run: IssuedRun, folder: Path) -> tuple[Path | None, Path | None]:
    return None, run.files(2) / AUTHORITY


def plain_tcp(run: IssuedRun, folder: Path) -> tuple[Path | None, Path | None]:
    return None, None


def another_authority(run: IssuedRun, folder: Path) -> tuple[Path | None, Path | None]:
    return write_pair(folder, *passing_authority().issue(2)), run.files(2) / AUTHORITY


def expired(run: IssuedRun, folder: Path) -> tuple[Path | None, Path | None]:
    return write_pair(folder, *dated(run.authority, "node-2", -7200, -3600)), run.files(2) / AUTHORITY


def not_yet_valid(run: IssuedRun, folder: Path) -> tuple[Path | None, Path | None]:
    return write_pair(folder, *dated(run.authority, "node-2", 3600, 7200)), run.files(2) / AUTHORITY


def unknown_name(run: IssuedRun, folder: Path) -> tuple[Path | None, Path | None]:
    return write_pair(folder, *run.authority.issue(77)), run.files(2) / AUTHORITY


def odd_name(run: IssuedRun, folder: Path) -> tuple[Path | None, Path | None]:
    return write_pair(folder, *dated(run.authority, "node-03", -60, 3600)), run.files(2) / AUTHORITY


OUTSIDERS = [plain_tcp, no_certificate, another_authority, expired, not_yet_valid, unknown_name, odd_name]


@pytest.mark.usefixtures("nodes")
@pytest.mark.parametrize("outsider", OUTSIDERS)
def test_an_outsider_sees_nobody_and_is_served_nothing(
    outsider: Callable[[IssuedRun, Path], tuple[Path | None, Path | None]], run: IssuedRun, tmp_path: Path
) -> None:
    pair, authority = outsider(run, tmp_path / "pair")
    with raw_session(run.addresses[3], pair, authority) as session:
        key = run.key(3)
        token = session.liveliness().declare_token(run.key(2))
        assert not any(served(session, run, name) for name in ("node-2", "node-77", "x"))
        assert not any(reply.ok for reply in replies(session, key, request(run)))
        assert seen(session) == [run.key(2)], "its own token"
        token.undeclare()


@pytest.mark.usefixtures("nodes")
def test_a_name_that_the_roster_lacks_is_told_and_cut_off(
    run: IssuedRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pair, authority = write_pair(tmp_path / "pair", *run.authority.issue(78)), run.files(2) / AUTHORITY
    with (
        caplog.at_level(logging.WARNING, "airmoe.mesh"),
        raw_session(run.addresses[3], pair, authority) as session,
    ):
        wait_until(lambda: "cut off 'node-78' at 127.0.0.1: the roster" in caplog.text, 20.0)
        wait_until(lambda: not list(session.info.links()), 20.0)


@pytest.fixture
def insider(run: IssuedRun, nodes: list[Node]) -> Iterator[zenoh.Session]:
    """Node 2, which belongs to the mesh and goes by no rules."""
    with raw_session(run.addresses[3], run.files(2), run.files(2) / AUTHORITY) as session:
        wait_until(lambda: served(session, run, "node-2"), 20.0)
        yield session


def test_a_member_asks_under_its_own_name_alone(run: IssuedRun, insider: zenoh.Session) -> None:
    assert served(insider, run, "node-2")
    for name in ("node-0", "node-77", "", "2-abc", "*", "**", "node-$*"):
        key = run.key(3) + "/from/" + name if name else run.key(3)
        assert not any(reply.ok for reply in replies(insider, key, request(run))), name


def test_a_wildcard_reaches_nobody(run: IssuedRun, insider: zenoh.Session) -> None:
    manifest = run.manifest
    for key in (
        "**",
        "airmoe/**",
        f"airmoe/{manifest.mesh}/**/from/node-2",
        f"airmoe/{manifest.mesh}/*/*/3/*",
    ):
        assert not replies(insider, key, request(run)), key


def test_a_member_cannot_serve_the_expert_of_another(run: IssuedRun, insider: zenoh.Session) -> None:
    got = list[str]()

    def answer(query: zenoh.Query) -> None:
        got.append(str(query.key_expr))
        query.reply(query.key_expr, b"mine")

    keys = [run.key(0), run.key(0) + "/**", f"airmoe/{run.manifest.mesh}/**", "**"]
    declared = [insider.declare_queryable(key, answer, complete=True) for key in keys]
    tokens = [insider.liveliness().declare_token(run.key(0))]
    with MeshClient(run.folders[1], identity=run.identity(1)) as client:
        client.wait_for_nodes(1, 20.0)
        time.sleep(REFUSED_S)
        alive = client.layer.liveliness.alive
        assert (3, 3) in alive
        assert (0, 0) not in alive
        images = np.zeros((1, 1, 32, 32), np.uint8)
        answer_to(client, images, gate=prefer(0.9, 0.0, 0.0, 0.1))
        session = client.mesh._session
        probed = link_key(run.manifest.mesh, 0)
        for key in (asked_key(each, "node-1") for each in (run.key(0), run.key(3), probed)):
            assert not [reply for reply in replies(session, key, b"x") if reply.ok]
    assert not got
    for each in (*declared, *tokens):
        each.undeclare()


def test_a_member_cannot_report_for_another(run: IssuedRun, insider: zenoh.Session, address: str) -> None:
    """Neither as another node, nor as a client at another node, nor under a member's own reporter's name."""
    mesh = run.manifest.mesh
    with MeshClient(run.folders[1], identity=run.identity(1), listen=address) as client:
        reporters = client.mesh.reporters()
        assert reporters.wait_for({1, 3}, 20.0)
        (honest,) = (each for each in reporters.known() if each.node == 3)
        got = list[str]()

        def answer(query: zenoh.Query) -> None:
            got.append(str(query.key_expr))
            query.reply(query.key_expr, b"mine")

        keys = [report_key(mesh, 3, "ab"), report_key(mesh, *honest), reports_key(mesh) + "/**"]
        declared = [insider.declare_queryable(key, answer, complete=True) for key in keys]
        tokens = [insider.liveliness().declare_token(key) for key in keys]
        own = insider.liveliness().declare_token(report_key(mesh, 2, "ab"))
        assert reporters.wait_for({2}, 20.0), "under its own number it may"
        assert {each for each in reporters.known() if each.node == 3} == {honest}
        assert isinstance(reporters.hear(20.0)[honest], NodeReport)
        assert not got
        for each in (*declared, *tokens, own):
            each.undeclare()
        reporters.close()


def test_an_address_without_tls_that_gossip_tells_is_not_dialled(
    run: IssuedRun, nodes: list[Node], address: str
) -> None:
    with raw_session(
        run.addresses[3], run.files(2), run.files(2) / AUTHORITY, listen=(f"tcp/{address}",)
    ) as session:
        wait_until(lambda: served(session, run, "node-2"), 20.0)
        with MeshClient(run.folders[1], identity=run.identity(1)) as client:
            client.wait_for_nodes(1, 20.0)
            time.sleep(REFUSED_S)
            assert not [link for link in session.info.links() if str(link.src).startswith("tcp/")]


def test_garbage_at_the_port_leaves_standing_links_untouched(run: IssuedRun, nodes: list[Node]) -> None:
    host, port = run.addresses[3].split(":")
    images = np.zeros((1, 1, 32, 32), np.uint8)
    with MeshClient(run.folders[1], identity=run.identity(1)) as client:
        client.wait_for_nodes(1, 20.0)
        for number in range(30):
            with socket.create_connection((host, int(port)), 5) as made:
                made.sendall(bytes([number]) * 100)
            answer = answer_to(client, images, gate=prefer(0.0, 0.0, 0.0, 1.0))
            assert not answer.degraded_T.any()


def test_the_files_of_another_node_are_no_use(run: IssuedRun, tmp_path: Path) -> None:
    shutil.copytree(run.folders[3], tmp_path / "box")
    with pytest.raises(IdentityError, match="is of node-2; expected that of node 3"):
        Node(tmp_path / "box", run.addresses[0], identity=run.identity(2))
