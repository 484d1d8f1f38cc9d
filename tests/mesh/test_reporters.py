"""Whoever watches a mesh hears all its nodes, and all its clients, as they are."""

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import zenoh
from numpy.typing import NDArray

from airmoe.errors import NoExpertReachedError
from airmoe.mesh import MeshClient, Node, open_session
from airmoe.mesh.keys import ANYBODY, asked_key, report_key
from airmoe.mesh.queries import node_of_asker
from airmoe.mesh.reporters import MOST_REPORTERS, Reporters
from airmoe.mesh.reports import REPORT_BYTES, ClientReport, NodeReport, encoded
from tests.mesh.ports import free_address
from tests.mesh.steering import LONG_S, answer_to, prefer, wait_until


class Watched(NamedTuple):
    """Nodes 1 to 3 at an address, and a client at node 0 that other clients reach and that watches."""

    seed: str
    nodes: list[Node]
    client: MeshClient
    reporters: Reporters


@contextmanager
def watched(folders: list[Path]) -> Iterator[Watched]:
    seed = free_address()
    with ExitStack() as open_:
        nodes = [
            open_.enter_context(Node(folder, seed if folder == folders[1] else free_address(), [seed]))
            for folder in folders[1:]
        ]
        client = open_.enter_context(MeshClient(folders[0], [seed], hedge_s=LONG_S, listen=free_address()))
        client.wait_for_nodes(3, LONG_S)
        reporters = client.mesh.reporters()
        open_.callback(reporters.close)
        assert reporters.wait_for({0, 1, 2, 3}, LONG_S)
        yield Watched(seed, nodes, client, reporters)


@pytest.fixture(scope="module")
def mesh(folders: list[Path]) -> Iterator[Watched]:
    with watched(folders) as mesh:
        yield mesh


@pytest.fixture
def reporters(mesh: Watched) -> Reporters:
    """Who reports, once nobody else does."""
    wait_until(lambda: len(mesh.reporters.known()) == 4, LONG_S)
    return mesh.reporters


@pytest.fixture
def seed(mesh: Watched) -> str:
    return mesh.seed


def of_nodes(reporters: Reporters) -> dict[int, NodeReport]:
    heard = reporters.hear(LONG_S).values()
    return {report.node: report for report in heard if isinstance(report, NodeReport)}


def of_clients(reporters: Reporters) -> dict[str, ClientReport]:
    heard = reporters.hear(LONG_S).items()
    return {key.session: report for key, report in heard if isinstance(report, ClientReport)}


def test_all_nodes_are_heard_and_who_asked_them(
    mesh: Watched, reporters: Reporters, images: NDArray[np.uint8]
) -> None:
    before = of_nodes(reporters)
    assert set(before) == {1, 2, 3}
    answer_to(mesh.client, images[:5], gate=prefer(0.0, 0.0, 1.0, 0.0))
    after = of_nodes(reporters)
    assert {node: report.items - before[node].items for node, report in after.items()} == {1: 0, 2: 5, 3: 0}
    assert 0 in map(node_of_asker, after[2].answered)


def test_the_client_itself_is_heard(reporters: Reporters) -> None:
    heard = of_clients(reporters)
    assert list(heard) == [reporters.own]
    assert heard[reporters.own].node == 0


def test_another_client_is_heard_with_what_it_asked(
    reporters: Reporters, folders: list[Path], seed: str, images: NDArray[np.uint8]
) -> None:
    with MeshClient(folders[3], [seed]) as other:
        other.wait_for_nodes(3, LONG_S)
        answers = [answer_to(other, images[:count], gate=prefer(0.0, 0.9, 0.1, 0.0)) for count in (4, 2)]
        wait_until(lambda: len(reporters.known()) == 5, LONG_S)
        (report,) = (each for each in of_clients(reporters).values() if each.node == 3)
        asked = report.asked
        assert asked is not None
        assert (asked.batches, asked.items, asked.degraded, asked.failed) == (2, 6, 0, 0)
        energy_j = sum(answer.dispatched.energy_j_T.sum() for answer in answers)
        assert asked.energy_j == pytest.approx(energy_j)
        assert asked.energy_j > 0
        assert asked.elapsed_s == pytest.approx(sum(answer.elapsed_s for answer in answers))
        assert {link.node: link.messages for link in report.links} == {0: 0, 1: 2, 2: 0}
    wait_until(lambda: len(reporters.known()) == 4, LONG_S)


def test_a_node_that_is_gone_is_not_waited_for_and_what_it_costs_is_counted(
    folders: list[Path], images: NDArray[np.uint8]
) -> None:
    with watched(folders) as mesh:
        mesh.nodes[0].close()
        wait_until(lambda: {each.node for each in mesh.reporters.known()} == {0, 2, 3}, LONG_S)
        begin_s = time.monotonic()
        assert set(of_nodes(mesh.reporters)) == {2, 3}
        assert time.monotonic() - begin_s < LONG_S / 2
        wait_until(lambda: 1 not in mesh.client.layer.nodes_alive(), LONG_S)
        assert answer_to(mesh.client, images[:3], gate=prefer(0.0, 0.9, 0.1, 0.0)).degraded_T.all()
        with pytest.raises(NoExpertReachedError):
            mesh.client.predict(images[:2], min_experts=4, deadline_s=LONG_S)
        asked = of_clients(mesh.reporters)[mesh.reporters.own].asked
        assert asked is not None
        assert (asked.batches, asked.items, asked.degraded, asked.failed) == (1, 3, 3, 1)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"{}", "the report is wrong"),
        (b" " * (REPORT_BYTES + 1), f"expected at most {REPORT_BYTES}"),
        (None, "it is of node 7; expected 2"),
    ],
    ids=["no report", "too long", "another node's"],
)
def test_a_wrong_report_is_not_heard_but_told(
    mesh: Watched,
    reporters: Reporters,
    data: bytes | None,
    said: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if data is None:
        data = encoded(ClientReport(node=7, model_hash="0" * 16, name="x", since_s=0.0, asked=None, links=[]))
    with open_session(connect=[mesh.seed]) as session:
        key = report_key(mesh.client.manifest.mesh, 2, str(session.zid()))

        def answer(query: zenoh.Query) -> None:
            query.reply(query.key_expr, data)
            query.drop()

        declared = session.declare_queryable(asked_key(key, ANYBODY), answer)
        token = session.liveliness().declare_token(key)
        wait_until(lambda: any(each.session == str(session.zid()) for each in reporters.known()), LONG_S)
        with caplog.at_level(logging.WARNING, "airmoe.mesh"):
            heard = reporters.hear(LONG_S)
        assert str(session.zid()) not in {key.session for key in heard}
        assert set(of_nodes(reporters)) == {1, 2, 3}, "the others are heard"
        token.undeclare()
        declared.undeclare()
    assert said in caplog.text


def test_who_is_late_is_not_waited_for_and_makes_no_line(
    mesh: Watched, reporters: Reporters, caplog: pytest.LogCaptureFixture
) -> None:
    asked = list[zenoh.Query]()
    with open_session(connect=[mesh.seed]) as session:
        key = report_key(mesh.client.manifest.mesh, 2, str(session.zid()))
        declared = session.declare_queryable(asked_key(key, ANYBODY), asked.append)
        token = session.liveliness().declare_token(key)
        wait_until(lambda: any(each.session == str(session.zid()) for each in reporters.known()), LONG_S)
        with caplog.at_level(logging.INFO, "airmoe.mesh"):
            heard = reporters.hear(1.0)
        assert asked, "it was asked, and says nothing"
        assert str(session.zid()) not in {key.session for key in heard}
        asked.clear()
        token.undeclare()
        declared.undeclare()
    assert "no report" not in caplog.text


def test_a_question_with_anything_in_it_is_refused(mesh: Watched, reporters: Reporters) -> None:
    reporter = next(each for each in reporters.known() if each.node == 2)
    key = asked_key(report_key(mesh.client.manifest.mesh, *reporter), "0-ab")
    (reply,) = mesh.client.mesh._session.get(key, payload=b"x", timeout=LONG_S)
    assert reply.err is not None
    assert reply.err.payload.to_string() == "the request has 1 bytes; expected none"


@pytest.mark.parametrize(
    "odd",
    [
        "report/2",
        "report/2/XY",
        "report/x/ab",
        "report/2/ab/c",
        "report/12345678/ab",
        "report/4/ab",
        "report/\u0663/ab",
    ],
)
def test_tokens_with_odd_names_are_no_reporters(reporters: Reporters, seed: str, odd: str) -> None:
    known = reporters.known()
    with open_session(connect=[seed]) as session:
        names = odd, f"report/3/{session.zid()}"
        tokens = [session.liveliness().declare_token(f"airmoe/lab/{name}") for name in names]
        wait_until(lambda: reporters.known() != known, LONG_S)
        assert len(reporters.known()) == len(known) + 1
        for token in tokens:
            token.undeclare()


def test_one_node_cannot_fill_the_places_of_others(
    mesh: Watched, reporters: Reporters, caplog: pytest.LogCaptureFixture
) -> None:
    with open_session(connect=[mesh.seed]) as session, caplog.at_level(logging.WARNING, "airmoe.mesh"):
        keys = [f"airmoe/lab/report/2/{number:x}" for number in range(2 * MOST_REPORTERS)]
        tokens = [session.liveliness().declare_token(key) for key in keys]
        wait_until(lambda: f"more than {MOST_REPORTERS} sessions report at node 2" in caplog.text, LONG_S)
        other = session.liveliness().declare_token("airmoe/lab/report/3/ab")
        wait_until(lambda: (3, "ab") in reporters.known(), LONG_S)
        assert sum(each.node == 2 for each in reporters.known()) == MOST_REPORTERS
        for token in (*tokens, other):
            token.undeclare()


@pytest.mark.parametrize(
    ("asker", "node"),
    [
        ("node-3", 3),
        ("3-0af", 3),
        ("12", 12),
        ("other", None),
        ("node-x", None),
        ("", None),
        ("9" * 20, None),
        ("node-\u0663", None),
    ],
)
def test_who_asks_tells_its_node(asker: str, node: int | None) -> None:
    assert node_of_asker(asker) == node
