"""Nodes and clients that report how they are, and whoever asks all of them."""

import re
import threading
import time
from collections.abc import Callable, Mapping, Set
from contextlib import suppress
from typing import NamedTuple

import zenoh

from airmoe.errors import FrameError
from airmoe.mesh.keys import report_key, reports_key
from airmoe.mesh.log import about_node, mesh_log
from airmoe.mesh.queries import anybody, ask, refusal_of, refuse, reply_to, serve
from airmoe.mesh.reports import Report, decoded, encoded, refuse_length

MOST_REPORTERS = 32
"""How many sessions at a node are watched, the first that come."""


LATE = "Timeout"
"""What Zenoh itself answers when the time is over."""


class Reporter(NamedTuple):
    """Who reports: a session of a node, or of a client at it."""

    node: int
    session: str


def report_to(
    session: zenoh.Session,
    mesh: str,
    node: int,
    report: Callable[[], Report],
    admits: Callable[[str], bool] = anybody,
) -> Callable[[], None]:
    """Answer whoever asks how this node or client is; return how that is ended.

    Args:
        session: an open Zenoh session.
        mesh: name of the mesh.
        node: its number.
        report: makes the report, on the network's own thread: it must return at once, and not call Zenoh.
        admits: who may ask.
    """
    key = report_key(mesh, node, str(session.zid()))

    def accept(query: zenoh.Query, asker: str) -> None:
        if query.payload is not None and len(query.payload):
            refuse(query, f"the request has {len(query.payload)} bytes; expected none")
            return
        with suppress(zenoh.ZError):  # whoever asked is gone
            reply_to(query, encoded(report()))

    answers = serve(session, key, accept, admits)
    token = session.liveliness().declare_token(key)

    def end() -> None:
        token.undeclare()
        answers.undeclare()

    return end


class Reporters:
    """All who report on a mesh, watched until closed.

    Args:
        session: an open Zenoh session.
        mesh: name of the mesh.
        asker: what this session calls itself.
        admits: whether a node belongs to the mesh.
    """

    def __init__(self, session: zenoh.Session, mesh: str, asker: str, admits: Callable[[int], bool]) -> None:
        self._session, self._mesh, self._asker, self._admits = session, mesh, asker, admits
        self._known: set[Reporter] = set()
        self._watching = True
        self._changed = threading.Condition()
        prefix = reports_key(mesh)
        self._form = re.compile(rf"{re.escape(prefix)}/([0-9]{{1,7}})/([0-9a-f]{{1,32}})")
        self._subscriber = session.liveliness().declare_subscriber(
            f"{prefix}/**", zenoh.handlers.Callback(self._on_liveliness, indirect=False), history=True
        )

    def close(self) -> None:
        """Stop watching; the session stays open. Closing twice does no harm."""
        if self._watching:
            self._subscriber.undeclare()
        self._watching = False

    @property
    def own(self) -> str:
        """The name of this session among the reporters'."""
        return str(self._session.zid())

    def known(self) -> frozenset[Reporter]:
        """Return all who report now."""
        with self._changed:
            return frozenset(each for each in self._known if self._admits(each.node))

    def wait_for(self, nodes: Set[int], timeout_s: float) -> bool:
        """Wait until these nodes report, or the time is over; return whether they do."""
        with self._changed:
            return self._changed.wait_for(lambda: nodes <= {each.node for each in self._known}, timeout_s)

    def _on_liveliness(self, sample: zenoh.Sample) -> None:
        found = self._form.fullmatch(str(sample.key_expr))
        if found is None:
            return
        reporter = Reporter(int(found[1]), found[2])
        with self._changed:
            if sample.kind != zenoh.SampleKind.PUT:
                self._known.discard(reporter)
                return
            if not self._admits(reporter.node) or reporter in self._known:
                return
            is_full = sum(each.node == reporter.node for each in self._known) >= MOST_REPORTERS
            if not is_full:
                self._known.add(reporter)
                self._changed.notify_all()
        if is_full:
            what, whose = "more than %d sessions report at node %d", about_node(reporter.node)
            mesh_log.warning(
                what + "; the others are not watched", MOST_REPORTERS, reporter.node, extra=whose
            )

    def hear(self, timeout_s: float) -> Mapping[Reporter, Report]:
        """Ask all at once; return what came in time and is right."""
        heard, lock, is_all = dict[Reporter, Report](), threading.Lock(), threading.Event()
        asked = self.known()
        left = len(asked)

        def arrived(reporter: Reporter, reply: zenoh.Reply | None) -> None:
            nonlocal left
            with lock:
                if reply is None:
                    left -= 1
                    if not left:
                        is_all.set()
                elif (report := _of(reporter, reply)) is not None:
                    heard[reporter] = report

        end_s = time.monotonic() + timeout_s
        for each in asked:
            key, whom = report_key(self._mesh, *each), f"node {each.node}"

            def came(reply: zenoh.Reply | None, each: Reporter = each) -> None:
                arrived(each, reply)

            ask(self._session, key, self._asker, b"", timeout_s, came, whom)
        if asked:
            is_all.wait(max(end_s - time.monotonic(), 0.0))
        with lock:
            return dict(heard)


def _of(reporter: Reporter, reply: zenoh.Reply) -> Report | None:
    """Return the report in a reply; None where there is none. What is wrong with it is logged."""
    if reply.ok is None:
        why = refusal_of(reply)
        if why == LATE:
            return None
    else:
        try:
            refuse_length(len(reply.ok.payload))
            report = decoded(reply.ok.payload.to_bytes())
            if report.node == reporter.node:
                return report
            why = f"it is of node {report.node}; expected {reporter.node}"
        except FrameError as error:
            why = str(error)
    mesh_log.warning("node %d gave no report: %s", reporter.node, why, extra=about_node(reporter.node))
    return None
