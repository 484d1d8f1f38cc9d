"""What a session's links need beside Zenoh: they end at once, are dialled again, and strangers are told."""

import math
import threading
import time
from collections.abc import Collection, Sequence

import zenoh

from airmoe.mesh.door import Door
from airmoe.mesh.ending import network_calls_back
from airmoe.mesh.linger import cut, never_linger
from airmoe.mesh.locators import host_and_port
from airmoe.mesh.log import PEER_NAME_LENGTH, about, mesh_log
from airmoe.mesh.membership import Membership
from airmoe.mesh.redial import Redialler

CUT_SHORT, CUT_SHORT_S = 3, 1.0
"""How often links with a node may end so soon after they came about, before that is told."""


def tend_links(session: zenoh.Session, listen: Sequence[str] = ()) -> None:
    """Do for a session of your own what `open_session` does for its sessions, until it is closed.

    The end of a dead link never holds up the others. Whoever was found by gossip and is lost is dialled
    again, if the session listens somewhere.

    Args:
        session: an open Zenoh session, in mode "peer".
        listen: Zenoh's locators at which it listens, e.g. "tcp/10.0.0.3:7447".
    """
    Tended(session, listen)


class Tended:
    """Watches a session's links until it is closed.

    Args:
        session: an open Zenoh session, in mode "peer".
        listen: Zenoh's locators at which it listens.
        door: where other sessions of this process reach it; default where it listens.
        given: locators that Zenoh dials by itself.
        files: names of the files that name every node. The log says who is linked and is not named; where
            there is none, anybody may come.
        membership: who belongs to the mesh. Anybody else who is linked is told, and cut off.
    """

    def __init__(
        self,
        session: zenoh.Session,
        listen: Sequence[str] = (),
        door: Door | None = None,
        given: Collection[str] = (),
        files: Sequence[str] = (),
        membership: Membership | None = None,
    ) -> None:
        self._given, self._files, self._membership = frozenset(given), files, membership
        self._ports = {port for _, port in filter(None, map(host_and_port, listen))}
        self._hosts = {host for host, _ in filter(None, map(host_and_port, given))}
        self._peer_of: dict[tuple[str, str], str] = {}
        self._link_of: dict[tuple[str, str], zenoh.Link] = {}
        self._dialled_of: dict[str, set[str]] = {}
        self._begin_s: dict[tuple[str, str], float] = {}
        self._cut_short: dict[str, int] = {}
        self._told: set[str] = set()
        self._noting = threading.Lock()  # links are lost on several threads
        self._door = door
        way = door.locator if door is not None else next(iter(listen), None)
        identity = None if membership is None else membership.identity
        self._redialler = None if way is None else Redialler(session.info, way, identity)
        if membership is not None:
            membership.left_out.append(self._cut_off)
        # By default a thread would wait for events, and keep the process alive.
        direct = zenoh.handlers.Callback(self._on_event, indirect=False)
        session.info.declare_link_events_listener(direct, history=True)
        network_calls_back()

    def _on_event(self, event: zenoh.LinkEvent) -> None:
        """Take note, on the network's own thread: nothing here calls Zenoh or waits for who does."""
        link = event.link
        peer, ends = str(link.zid), (link.src, link.dst)
        here, there = host_and_port(link.src), host_and_port(link.dst)
        if here is None or there is None:  # through the door
            return
        if event.kind == zenoh.SampleKind.PUT:
            never_linger(link)
        with self._noting:
            if event.kind == zenoh.SampleKind.PUT:
                self._peer_of[ends], self._begin_s[ends] = peer, time.monotonic()
                is_dialled = here[1] not in self._ports
                if is_dialled:
                    self._dialled_of.setdefault(peer, set()).add(link.dst)
                self._found(self._dialled_of.get(peer, ()))
                whom = link.dst.partition("/")[2] if is_dialled else there[0]
                is_named = link.dst in self._given if is_dialled else there[0] in self._hosts
                if self._membership is not None:
                    self._link_of[ends] = link
                    self._refuse_unknown(link, self._membership, whom)
                elif self._files and not is_named:
                    self._tell_of_stranger(whom)
                return
            self._tell_if_cut_short(link, ends)
            if self._let_go(ends) and peer not in self._peer_of.values():
                self._lost(self._dialled_of.pop(peer, set()) - self._given)

    def _found(self, locators: Collection[str]) -> None:
        if self._redialler is not None:
            self._redialler.found(locators)

    def _lost(self, locators: Collection[str]) -> None:
        if self._redialler is not None and locators:
            self._redialler.lost(locators)

    def _tell_of_stranger(self, whom: str) -> None:
        if whom not in self._told:
            self._told.add(whom)
            files = " and ".join(self._files)
            mesh_log.warning("linked with %s, which %s does not name", whom, files, extra=about(whom))

    def _let_go(self, ends: tuple[str, str]) -> bool:
        """Forget a link; return whether it was known."""
        self._link_of.pop(ends, None)
        return self._peer_of.pop(ends, None) is not None

    def _refuse_unknown(self, link: zenoh.Link, membership: Membership, where: str) -> None:
        """Cut off a link with somebody who does not belong to the mesh."""
        name = link.auth_identifier or ""
        if membership.admits(name):
            membership.changed.set()
            return
        cut(link)
        if name not in self._told:
            self._told.add(name)
            what = "cut off %r at %s: the roster does not have this name"
            mesh_log.warning(what, name[:PEER_NAME_LENGTH], where, extra=about(where))

    def _tell_if_cut_short(self, link: zenoh.Link, ends: tuple[str, str]) -> None:
        """Log who cuts us off: a box that was removed from the roster is told by nobody else."""
        lasted_s, membership = time.monotonic() - self._begin_s.pop(ends, -math.inf), self._membership
        name = link.auth_identifier or ""
        if membership is None or lasted_s > CUT_SHORT_S or not membership.admits(name):
            return
        self._cut_short[name] = count = self._cut_short.get(name, 0) + 1
        if count == CUT_SHORT:
            what = "%s cuts us off as soon as we are linked: its roster may no longer have %s"
            mesh_log.warning(what, name, membership.identity.name, extra=about(name))

    def _cut_off(self, names: frozenset[str]) -> None:
        """Cut off all links with these."""
        with self._noting:
            links = [link for link in self._link_of.values() if link.auth_identifier in names]
        for link in links:
            cut(link)
