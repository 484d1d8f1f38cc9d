"""What a session's links need beside Zenoh: they end at once, are dialled again, and strangers are told."""

import threading
from collections.abc import Collection, Sequence

import zenoh

from airmoe.mesh.door import Door
from airmoe.mesh.linger import never_linger
from airmoe.mesh.locators import host_and_port
from airmoe.mesh.log import about, mesh_log
from airmoe.mesh.redial import Redialler


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
        rosters: names of the files that name every node. The log says who is linked and is not named; where
            there is no roster, anybody may come.
    """

    def __init__(
        self,
        session: zenoh.Session,
        listen: Sequence[str] = (),
        door: Door | None = None,
        given: Collection[str] = (),
        rosters: Sequence[str] = (),
    ) -> None:
        self._given, self._rosters = frozenset(given), rosters
        self._ports = {port for _, port in filter(None, map(host_and_port, listen))}
        self._hosts = {host for host, _ in filter(None, map(host_and_port, given))}
        self._peer_of: dict[tuple[str, str], str] = {}
        self._dialled_of: dict[str, set[str]] = {}
        self._told: set[str] = set()
        self._noting = threading.Lock()  # links are lost on several threads
        self._door = door
        way = door.locator if door is not None else next(iter(listen), None)
        self._redialler = None if way is None else Redialler(session.info, way)
        # By default a thread would wait for events, and keep the process alive.
        direct = zenoh.handlers.Callback(self._on_event, indirect=False)
        session.info.declare_link_events_listener(direct, history=True)

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
                self._peer_of[ends] = peer
                is_dialled = here[1] not in self._ports
                if is_dialled:
                    self._dialled_of.setdefault(peer, set()).add(link.dst)
                self._found(self._dialled_of.get(peer, ()))
                is_named = link.dst in self._given if is_dialled else there[0] in self._hosts
                if self._rosters and not is_named:
                    self._tell_of_stranger(link.dst.partition("/")[2] if is_dialled else there[0])
            elif self._peer_of.pop(ends, None) is not None and peer not in self._peer_of.values():
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
            rosters = " and ".join(self._rosters)
            mesh_log.warning("linked with %s, which %s does not name", whom, rosters, extra=about(whom))
