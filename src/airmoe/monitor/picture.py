"""Turns what the nodes and clients of a mesh report into what is seen, one look after another."""

from collections import deque
from collections.abc import Mapping, Set
from dataclasses import replace
from typing import NamedTuple

from airmoe.manifest import Manifest
from airmoe.mesh.queries import node_of_asker
from airmoe.mesh.reporters import Reporter
from airmoe.mesh.reports import ClientReport, LinkReport, NodeReport, Report
from airmoe.monitor.growth import Grown, Growth, NodeGrowth, newest
from airmoe.monitor.happenings import Happenings
from airmoe.monitor.look import LinkNow, Look, NodeNow, State, Totals

HISTORY = 120
"""How many looks the small graphs show."""

MOST_LINKS_SHOWN = 400
"""How many links are shown, those with most requests first."""


class Placed(NamedTuple):
    """An expert of a layer, as a node holds it."""

    layer: int
    expert: int
    node: int


class Picture:
    """What is seen of a mesh.

    Args:
        manifest: of the client that looks.
        own: the session that looks; it is no client as long as it asks nothing.
    """

    def __init__(self, manifest: Manifest, own: str) -> None:
        self._own = own
        self._placed: dict[int, list[Placed]] = {}
        for layer in manifest.layers:
            for expert, nodes in enumerate(layer.placement):
                for node in nodes:
                    self._placed.setdefault(node, []).append(Placed(layer.layer, expert, node))
        self._has_layers = len(manifest.layers) > 1
        self._growth, self._now_s = Growth(), 0.0
        self._model_hash, self._count = manifest.model_hash, manifest.nodes
        self._happenings = Happenings(manifest.mesh)
        self._history: deque[Totals] = deque(maxlen=HISTORY)

    def look(self, at_s: float, now_s: float, heard: Mapping[Reporter, Report], alive: Set[Placed]) -> Look:
        """Return what is seen now.

        Args:
            at_s: Unix time.
            now_s: seconds that only grow.
            heard: what came of all who report; reports about another model are left out.
            alive: the experts that are alive.
        """
        passed_s = max(now_s - self._now_s, 1e-3)
        self._now_s = now_s
        heard = {key: report for key, report in heard.items() if report.model_hash == self._model_hash}
        grown = self._growth.since(at_s, heard)
        reports = {report.node: report for report in newest(heard.values())}
        clients = {key: each for key, each in heard.items() if self._is_client(key, each)}
        nodes = [
            self._node(node, reports.get(node), grown.nodes.get(node), alive, passed_s)
            for node in sorted(self._placed)
        ]
        requests_s, unplaced_s = self._flows(grown, passed_s)
        gone = {each.node for each in nodes if each.state == "gone"}
        links = self._links(requests_s, heard, gone)
        self._history.append(_totals(grown, passed_s))
        self._happenings.note(at_s, nodes, clients, grown)
        return Look(
            at_s,
            nodes,
            sorted({report.node for report in clients.values()}),
            links[:MOST_LINKS_SHOWN],
            max(len(links) - MOST_LINKS_SHOWN, 0),
            unplaced_s,
            list(self._history),
            self._happenings.latest(),
        )

    def _is_client(self, reporter: Reporter, report: Report) -> bool:
        """Return whether somebody asks: who only watches has asked nothing about images."""
        if not isinstance(report, ClientReport):
            return False
        if report.asked is None:
            return reporter.session != self._own
        return bool(report.asked.batches or report.asked.failed)

    def _node(
        self,
        node: int,
        report: NodeReport | None,
        growth: NodeGrowth | None,
        alive: Set[Placed],
        passed_s: float,
    ) -> NodeNow:
        placed = self._placed[node]
        state, why = _state(placed, [each for each in placed if each in alive], report)
        now = NodeNow(node, state, why, self._experts(placed))
        if report is None or state == "gone":
            return now
        now = replace(
            now,
            classes=report.classes,
            classes_held=report.classes_held,
            waiting=report.waiting,
            roster=report.roster,
            certificate_ends_s=report.certificate_ends_s,
        )
        if growth is None:
            return now
        return replace(
            now,
            requests_s=sum(growth.answered.values()) / passed_s,
            items_s=growth.items / passed_s,
            refused_s=sum(growth.refused.values()) / passed_s,
            busy=min(growth.busy_s / passed_s, 1.0),
        )

    def _flows(self, grown: Grown, passed_s: float) -> tuple[dict[tuple[int, int], float], float]:
        """Return requests a second from the clients at a node to a node, and of clients that are nowhere."""
        requests_s: dict[tuple[int, int], float] = {}
        unplaced_s = 0.0
        for node, growth in grown.nodes.items():
            for asker, count in growth.answered.items():
                source = node_of_asker(asker)
                if source is None or source >= self._count:
                    unplaced_s += count / passed_s
                else:
                    requests_s[source, node] = requests_s.get((source, node), 0.0) + count / passed_s
        return requests_s, unplaced_s

    def _links(
        self,
        requests_s: Mapping[tuple[int, int], float],
        heard: Mapping[Reporter, Report],
        gone: Set[int],
    ) -> list[LinkNow]:
        """Return the links that requests went over or somebody measured, those with most requests first.

        What was measured of the link to a node that is gone says nothing of now.
        """
        measured: dict[tuple[int, int], LinkReport] = {}
        for _, report in sorted(heard.items()):
            if isinstance(report, ClientReport):
                for link in report.links:
                    ends = report.node, link.node
                    if (
                        link.node in self._placed
                        and link.node not in gone
                        and link.latency_s is not None
                        and (ends not in measured or link.rate_bps is not None)
                    ):
                        measured[ends] = link
        links = [
            LinkNow(
                *ends,
                requests_s.get(ends, 0.0),
                measured[ends].rate_bps if ends in measured else None,
                measured[ends].latency_s if ends in measured else None,
            )
            for ends in {**requests_s, **measured}
        ]
        return sorted(links, key=lambda link: (-link.requests_s, link.source, link.target))

    def _experts(self, placed: list[Placed]) -> str:
        if not self._has_layers:
            return ", ".join(str(each.expert) for each in placed)
        of_layer: dict[int, list[str]] = {}
        for each in placed:
            of_layer.setdefault(each.layer, []).append(str(each.expert))
        return "; ".join(f"layer {layer}: {', '.join(experts)}" for layer, experts in of_layer.items())


def _state(placed: list[Placed], living: list[Placed], report: NodeReport | None) -> tuple[State, str | None]:
    if not living:
        return "gone", "none of its experts is alive"
    if report is not None and report.ill is not None:
        return "ill", report.ill
    if len(living) < len(placed):
        return "partly", f"{len(living)} of {len(placed)} experts are alive"
    return "well", None if report is not None else "it does not report"


def _totals(grown: Grown, passed_s: float) -> Totals:
    asked = grown.asked.values()
    items, batches = sum(each.items for each in asked), sum(each.batches for each in asked)
    requests = sum(sum(each.answered.values()) for each in grown.nodes.values())
    return Totals(
        requests / passed_s,
        items / passed_s,
        sum(each.energy_j for each in asked) / items if items else None,
        sum(each.elapsed_s for each in asked) / batches if batches else None,
        min(sum(each.degraded for each in asked) / items, 1.0) if items else None,
    )
