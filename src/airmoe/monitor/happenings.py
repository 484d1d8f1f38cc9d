"""What happened on a mesh, in sentences."""

from collections import deque
from collections.abc import Mapping, Sequence

from airmoe.mesh.reporters import Reporter
from airmoe.mesh.reports import Report
from airmoe.monitor.growth import Grown
from airmoe.monitor.look import Event, Level, NodeNow

MOST_EVENTS = 100
"""How many are kept, the latest."""

AGAIN_S = 30.0
"""How long what happens again and again is told in one line."""

SOON_S = 3 * 24 * 3600.0
"""How long before its end a certificate is told to be soon over."""


class Happenings:
    """Tells what changed from one look to the next.

    Args:
        mesh: its name.
    """

    def __init__(self, mesh: str) -> None:
        self._mesh = mesh
        self._events: deque[Event] = deque(maxlen=MOST_EVENTS)
        self._nodes: dict[int, NodeNow] = {}
        self._clients: dict[Reporter, Report] = {}
        self._ends_told: dict[int, float] = {}
        self._told_s: dict[tuple[str, int], float] = {}
        self._lately: dict[tuple[str, str, str], tuple[float, int, Event | None]] = {}
        self._is_first = True

    def latest(self) -> list[Event]:
        """Return the events, the latest first."""
        return list(reversed(self._events))

    def note(
        self, at_s: float, nodes: Sequence[NodeNow], clients: Mapping[Reporter, Report], grown: Grown
    ) -> None:
        """Note what is other than at the look before."""
        if self._is_first:
            well = sum(node.state == "well" for node in nodes)
            self._happened(
                at_s, f"looking at mesh {self._mesh}: {well} of {len(nodes)} nodes are well", "note"
            )
        for node in nodes:
            self._note_node(at_s, node, self._nodes.get(node.node))
        if not self._is_first:
            for key in sorted(clients.keys() - self._clients.keys()):
                self._happened(at_s, f"a client at node {key.node} came", "note")
            for key in sorted(self._clients.keys() - clients.keys()):
                self._happened(at_s, f"a client at node {key.node} left", "note")
        self._note_failures(at_s, grown)
        self._nodes, self._clients = {node.node: node for node in nodes}, dict(clients)
        self._is_first = False

    def _happened(self, at_s: float, what: str, level: Level) -> None:
        self._events.append(Event(at_s, what, level))

    def _seldom(self, at_s: float, kind: tuple[str, int], what: str, level: Level) -> None:
        """Tell what a node says of itself, once in a while: it may say something else each time."""
        if at_s - self._told_s.get(kind, -AGAIN_S) >= AGAIN_S:
            self._told_s[kind] = at_s
            self._happened(at_s, what, level)

    def _note_node(self, at_s: float, now: NodeNow, before: NodeNow | None) -> None:
        if before is not None and now.state != before.state:
            why = f": {now.why}" if now.why else ""
            level: Level = "bad" if now.state != "well" else "note" if now.why else "good"
            self._happened(at_s, f"node {now.node} is {now.state}{why}", level)
        if before is not None and None not in (before.roster, now.roster) and now.roster != before.roster:
            self._seldom(at_s, ("roster", now.node), f"node {now.node} goes by roster {now.roster}", "note")
        ends_s = now.certificate_ends_s
        if ends_s is not None and ends_s - at_s < SOON_S and self._ends_told.get(now.node) != ends_s:
            self._ends_told[now.node] = ends_s
            left = f"over in {(ends_s - at_s) / 3600:.0f} hours" if ends_s > at_s else "over"
            what = f"the certificate of node {now.node} is {left}"
            self._seldom(at_s, ("certificate", now.node), what, "bad")

    def _note_failures(self, at_s: float, grown: Grown) -> None:
        for node, growth in grown.nodes.items():
            for why, count in growth.refused.items():
                self._counted(at_s, f"node {node} refused ", count, "request", f": {why}")
        for key, asked in sorted(grown.asked.items()):
            client = f" of the client at node {key.node}"
            self._counted(at_s, "", asked.failed, "batch", f"{client} got no answer")
            self._counted(at_s, "", asked.degraded, "image", f"{client} got a degraded answer")
        for (key, target), count in sorted(grown.unanswered.items()):
            if target in self._nodes:
                client = f" of the client at node {key.node}"
                self._counted(at_s, f"node {target} left ", count, "message", f"{client} unanswered")

    def _counted(self, at_s: float, begin: str, count: int, what: str, end: str) -> None:
        """Tell how often something bad happened; what happens again soon is added to what was told."""
        if not count:
            return
        kind = begin, what, end
        begin_s, told, event = self._lately.get(kind, (at_s, 0, None))
        if event is None or at_s - begin_s > AGAIN_S or event not in self._events:
            begin_s, told = at_s, 0
        else:
            self._events.remove(event)
        count += told
        plural = "" if count == 1 else "es" if what.endswith("ch") else "s"
        event = Event(at_s, f"{begin}{count} {what}{plural}{end}", "bad")
        self._events.append(event)
        self._lately[kind] = begin_s, count, event
        while len(self._lately) > MOST_EVENTS:
            del self._lately[next(iter(self._lately))]
