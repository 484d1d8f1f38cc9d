"""What nodes and clients tell of themselves: it comes back as it was told, and what cannot be is refused."""

import datetime
import json
import time
from dataclasses import replace

import pytest

from airmoe.errors import FrameError
from airmoe.manifest import Manifest
from airmoe.mesh.condition import Condition
from airmoe.mesh.counts import MOST_ASKERS, Counts
from airmoe.mesh.link_meter import LinkMeasure
from airmoe.mesh.reports import (
    MOST_CLASSES,
    MOST_LINKS,
    REPORT_BYTES,
    AskedReport,
    ClientReport,
    LinkReport,
    NodeReport,
    decoded,
    encoded,
)

ENDS = datetime.datetime(2099, 1, 2, tzinfo=datetime.UTC)


def of_node(manifest: Manifest) -> NodeReport:
    """Of a node that answered two requests, and refused one."""
    counts = Counts()
    counts.answered("node-3", 5)
    counts.answered("node-3", 2)
    counts.refused("late")
    condition = Condition(1, "lab", manifest.model_hash, counts.now(), 4, 900, 0, 7, ENDS, False, True)
    return NodeReport.of(condition, manifest)


def of_client() -> ClientReport:
    asked = AskedReport(batches=2, failed=1, items=9, degraded=3, energy_j=1.5e-5, elapsed_s=0.25)
    links = LinkReport.of([LinkMeasure(2, 0.01, 4e6, 5, 1, 900, 800, 0.5), LinkMeasure(3)])
    return ClientReport(node=1, model_hash="0" * 16, name="node-1", since_s=1.8e9, asked=asked, links=links)


def test_a_node_tells_what_it_counted_and_what_it_holds(manifest: Manifest) -> None:
    report = of_node(manifest)
    assert (report.answered, report.items, report.refused["late"]) == ({"node-3": 2}, 7, 1)
    assert (report.waiting, report.roster, report.certificate_ends_s) == (4, 7, ENDS.timestamp())
    assert report.classes == [manifest.classes[held] for held in manifest.holds]
    assert report.ill is None
    assert abs(report.since_s - time.time()) < 60
    assert report.busy_s == 0.0
    busy = replace(Counts().now(), busy_s=2.5)
    condition = Condition(1, "lab", manifest.model_hash, busy, 0, 0, 0, None, None, False, True)
    assert NodeReport.of(condition, manifest).busy_s == 2.5


def test_a_client_tells_what_its_links_gave() -> None:
    link, unknown = of_client().links
    assert (link.node, link.latency_s, link.rate_bps, link.messages, link.unanswered) == (2, 0.01, 4e6, 5, 1)
    assert (unknown.node, unknown.latency_s, unknown.rate_bps) == (3, None, None)


def test_what_does_not_print_is_escaped(manifest: Manifest) -> None:
    odd = of_node(manifest).model_copy(update={"classes": ["a\u202eb", "\x1b[0m"], "ill": "two\nlines"})
    report = decoded(encoded(odd))
    assert isinstance(report, NodeReport)
    assert report.classes == ["a\\u202eb", "\\x1b[0m"]
    assert report.ill == "two\\nlines"


def test_a_node_that_is_ill_says_why(manifest: Manifest) -> None:
    condition = Condition(1, "lab", manifest.model_hash, Counts().now(), 0, 0, 0, None, None, True, True)
    assert NodeReport.of(condition, manifest).ill == "the node is closing"


def test_a_report_comes_back_as_it_was_told(manifest: Manifest) -> None:
    for report in (of_node(manifest), of_client(), of_client().model_copy(update={"asked": None})):
        assert decoded(encoded(report)) == report


def test_the_longest_reports_can_be_read(manifest: Manifest) -> None:
    counts = Counts()
    for number in range(2 * MOST_ASKERS):
        counts.answered(f"\u1234{number:047}", 1)
    classes = [f"{number}\u1234" + "\x00" * 500 for number in range(100)]
    many = manifest.model_copy(update={"classes": classes, "holds": list(range(100))})
    condition = Condition(1, "lab", manifest.model_hash, counts.now(), 0, 0, 0, None, None, False, True)
    report = decoded(encoded(NodeReport.of(condition, many)))
    assert isinstance(report, NodeReport)
    assert (len(report.classes), report.classes_held) == (MOST_CLASSES, 100)
    assert len(report.answered) == MOST_ASKERS + 1
    link = LinkReport(node=1 << 20, latency_s=1 / 3, rate_bps=1e9 / 3, messages=1 << 50, unanswered=1 << 50)
    client = of_client().model_copy(update={"links": [link] * MOST_LINKS})
    assert decoded(encoded(client)) == client


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"items": -1}, "items is -1; expected at least 0"),
        ({"busy_s": float("nan")}, "busy_s is nan; expected"),
        ({"busy_s": float("inf")}, "busy_s is inf; expected at most"),
        ({"busy_s": 1e300}, "busy_s is 1e+300; expected at most"),
        ({"items": 1 << 60}, "items is 1152921504606846976; expected a number below"),
        ({"answered": {"a" * 99: 1}}, "expected a text of at most 48 characters"),
        ({"classes": ["a"] * 99}, "expected a list of at most 16"),
        ({"kind": "hub"}, "kind is 'hub'"),
        ({"model_hash": "<script>"}, "model_hash is '<script>'"),
        ({"more": 1}, "more is 1; expected a known key"),
        ({"node": "1"}, "node is '1'; expected an integer"),
    ],
)
def test_what_cannot_be_is_refused(manifest: Manifest, change: dict[str, object], said: str) -> None:
    told = json.loads(encoded(of_node(manifest))) | change
    with pytest.raises(FrameError, match="the report is wrong") as refused:
        decoded(json.dumps(told).encode())
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "data",
    [b"", b"null", b"[]", b"7", b"\xff\xfe", b"{", b"[" * 60_000, b"0" * 5000, b'{"kind": []}'],
    ids=["nothing", "null", "list", "number", "no text", "cut", "deep", "large number", "odd kind"],
)
def test_what_is_no_report_is_refused(data: bytes) -> None:
    with pytest.raises(FrameError, match="the report is wrong"):
        decoded(data)


def test_what_is_too_long_is_not_read() -> None:
    with pytest.raises(FrameError, match=f"has {REPORT_BYTES + 1} bytes; expected at most {REPORT_BYTES}"):
        decoded(b" " * (REPORT_BYTES + 1))


def test_the_condition_of_a_node_is_what_it_reports(manifest: Manifest) -> None:
    """A field that a condition gets later has to be told, or left out on purpose."""
    condition = Condition(1, "lab", manifest.model_hash, Counts().now(), 0, 0, 0, None, None, False, True)
    told = set(vars(condition)) - {"mesh", "links", "waiting_bytes", "is_closing", "has_worker", "counted"}
    assert told == {"node", "model_hash", "waiting", "roster", "certificate_ends"}
    assert NodeReport.of(replace(condition, has_worker=False), manifest).ill is not None
