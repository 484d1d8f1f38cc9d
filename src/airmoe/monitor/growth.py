"""How much the counts of nodes and clients grew between two looks."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from airmoe.mesh.reporters import Reporter
from airmoe.mesh.reports import AskedReport, ClientReport, NodeReport, Report

NEW_S = 30.0
"""Counts that were not seen before began from nothing, if they say that they are no older than this."""

MOST_REMEMBERED = 2048
"""Of how many sessions of clients the counts are remembered, the latest."""


@dataclass(frozen=True)
class NodeGrowth:
    """What a node did since the look before; see `airmoe.mesh.reports.NodeReport`."""

    answered: dict[str, int]
    items: int
    refused: dict[str, int]
    busy_s: float


@dataclass(frozen=True)
class Grown:
    """What happened since the look before; who is not here was not known then.

    Attributes:
        nodes: by number.
        asked: by client.
        unanswered: messages by client and the node that left them unanswered.
    """

    nodes: dict[int, NodeGrowth] = field(default_factory=dict)
    asked: dict[Reporter, AskedReport] = field(default_factory=dict)
    unanswered: dict[tuple[Reporter, int], int] = field(default_factory=dict)


class Growth:
    """Remembers counts from one look to the next."""

    def __init__(self) -> None:
        self._nodes: dict[int, NodeReport] = {}
        self._clients: dict[Reporter, ClientReport] = {}
        self._is_first = True

    def since(self, at_s: float, heard: Mapping[Reporter, Report]) -> Grown:
        """Return what happened since the look before, and remember these reports.

        Args:
            at_s: Unix time.
            heard: the reports of now.
        """
        grown = Grown()
        for node in newest(heard.values()):
            before = self._nodes.get(node.node)
            if before is None or node.since_s != before.since_s:  # started anew: it counts from nothing
                before = self._nothing(node, at_s)
            if before is not None and node.items >= before.items:
                grown.nodes[node.node] = _of_node(node, before)
            self._nodes[node.node] = node
        for reporter, report in heard.items():
            if isinstance(report, ClientReport):
                self._learn(grown, reporter, report, at_s)
        while len(self._clients) > MOST_REMEMBERED:
            del self._clients[next(iter(self._clients))]
        self._is_first = False
        return grown

    def _nothing(self, report: NodeReport, at_s: float) -> NodeReport | None:
        """Return counts from which a node's grew that was not known so; None where that cannot be told."""
        if self._is_first or abs(at_s - report.since_s) > NEW_S:
            return None
        return report.model_copy(update={"answered": {}, "items": 0, "refused": {}, "busy_s": 0.0})

    def _learn(self, grown: Grown, reporter: Reporter, report: ClientReport, at_s: float) -> None:
        before = self._clients.pop(reporter, None)
        if before is None and not self._is_first and abs(at_s - report.since_s) <= NEW_S:
            before = report.model_copy(update={"asked": report.asked and AskedReport(), "links": []})
        self._clients[reporter] = report
        if before is None:
            return
        if report.asked is not None and before.asked is not None:
            grown.asked[reporter] = _of_asked(report.asked, before.asked)
        left = {link.node: link.unanswered for link in before.links}
        for link in report.links:
            if (more := link.unanswered - left.get(link.node, 0)) > 0:
                grown.unanswered[reporter, link.node] = more


def newest(reports: Iterable[Report]) -> list[NodeReport]:
    """Return a report of each node: a node that goes on in another session has two for a moment."""
    found: dict[int, NodeReport] = {}
    for report in reports:
        if isinstance(report, NodeReport):
            other = found.get(report.node)
            if other is None or (report.since_s, report.items) >= (other.since_s, other.items):
                found[report.node] = report
    return [found[node] for node in sorted(found)]


def _more(now: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    return {name: more for name, count in now.items() if (more := count - before.get(name, 0)) > 0}


def _of_node(report: NodeReport, before: NodeReport) -> NodeGrowth:
    return NodeGrowth(
        _more(report.answered, before.answered),
        report.items - before.items,
        _more(report.refused, before.refused),
        max(report.busy_s - before.busy_s, 0.0),
    )


def _of_asked(now: AskedReport, before: AskedReport) -> AskedReport:
    return AskedReport(
        batches=max(now.batches - before.batches, 0),
        failed=max(now.failed - before.failed, 0),
        items=max(now.items - before.items, 0),
        degraded=max(now.degraded - before.degraded, 0),
        energy_j=max(now.energy_j - before.energy_j, 0.0),
        elapsed_s=max(now.elapsed_s - before.elapsed_s, 0.0),
    )
