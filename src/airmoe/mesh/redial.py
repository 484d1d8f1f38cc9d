"""Addresses that gossip told, dialled again after their link was lost.

Zenoh keeps dialling what a session was opened with, and dials what gossip tells once. Nothing can be added
later. So a second session of this process, the introducer, dials the lost addresses for as long as it takes.
It is linked with the first session, too, and gossips to it whom it found; the first then dials them itself.
The introducer listens nowhere, serves nothing, and ends as soon as nobody is missed.
"""

import threading
import time
from collections.abc import Collection
from contextlib import suppress

import zenoh

from airmoe.errors import IdentityError
from airmoe.mesh.ending import ends_with_process
from airmoe.mesh.identity import Identity
from airmoe.mesh.linger import never_linger
from airmoe.mesh.log import mesh_log
from airmoe.mesh.zenoh_config import session_config

GRACE_S = 0.25
"""How long a lost peer has to come back by itself."""

AGAIN_S = 0.5
"""How long after an introduction the link may take, before there is another introduction."""

FORGOTTEN_S = 3600.0
"""How long a lost address is dialled: its node may have left for good."""

_LOOK_S = 0.1


class Redialler:
    """Has a session linked again with peers that it lost.

    Args:
        info: of the session.
        door: a locator at which the session can be reached from this process.
        identity: of the session.
    """

    def __init__(self, info: zenoh.SessionInfo, door: str, identity: Identity | None = None) -> None:
        self._info, self._door, self._identity = info, door, identity
        self._changed = threading.Condition()
        self._lost: dict[str, float] = {}
        self._works = self._ends = False

    def lost(self, locators: Collection[str]) -> None:
        """Dial these until they are found."""
        with self._changed:
            if not self._ends:
                self._lost.update(dict.fromkeys(locators, time.monotonic()))
            if self._lost and not self._works:
                thread = threading.Thread(target=self._work, name="airmoe redial", daemon=True)
                thread.start()
                self._works = True
                ends_with_process(thread, self._end)

    def found(self, locators: Collection[str]) -> None:
        """Dial these no longer."""
        with self._changed:
            for locator in locators:
                self._lost.pop(locator, None)
            self._changed.notify_all()

    def _end(self) -> None:
        """Dial nobody any more."""
        with self._changed:
            self._ends = True
            self._lost.clear()
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._lost:
                    self._works = False
                    return
                wanted = self._due()
                if not wanted:
                    self._changed.wait(_LOOK_S)
                    continue
            if self._is_closed():
                self.found(wanted)
                continue
            try:
                self._introduce(wanted)
            except (zenoh.ZError, IdentityError) as error:
                mesh_log.warning("lost nodes cannot be dialled: %s", error)
                time.sleep(1.0)

    def _due(self) -> frozenset[str]:
        """Return what is to be dialled now."""
        with self._changed:
            now_s = time.monotonic()
            self._lost = {each: at_s for each, at_s in self._lost.items() if now_s - at_s < FORGOTTEN_S}
            return frozenset(each for each, at_s in self._lost.items() if now_s - at_s >= GRACE_S)

    def _introduce(self, wanted: frozenset[str]) -> None:
        """Dial ``wanted`` until something changes, or an introduction was in vain."""
        with zenoh.open(_introducer(self._door, wanted, self._identity)) as introducer:
            direct = zenoh.handlers.Callback(_on_event, indirect=False)
            with introducer.info.declare_link_events_listener(direct, history=True):
                self._wait_for(wanted, introducer)

    def _wait_for(self, wanted: frozenset[str], introducer: zenoh.Session) -> None:
        introduced_s: dict[str, float] = {}
        while self._due() == wanted and not self._is_closed():
            now_s, peers = time.monotonic(), {str(link.zid) for link in self._info.links()}
            linked = {link.dst: str(link.zid) for link in introducer.info.links() if link.dst in wanted}
            self.found([locator for locator, zid in linked.items() if zid in peers])
            for locator in linked:
                introduced_s.setdefault(locator, now_s)
            if any(now_s - at_s > AGAIN_S for at_s in introduced_s.values()):
                return
            with self._changed:
                self._changed.wait(_LOOK_S)

    def _is_closed(self) -> bool:
        """Return whether the session is closed. It is not held here, or it would never end by itself."""
        with suppress(zenoh.ZError):
            self._info.declare_transport_events_listener(zenoh.handlers.RingChannel(1)).undeclare()
            return False
        return True


def _introducer(door: str, wanted: frozenset[str], identity: Identity | None) -> zenoh.Config:
    return session_config(
        connect=[door, *sorted(wanted)],
        changes={
            "scouting/gossip/autoconnect": [],  # it tells, and follows nobody
            "open/return_conditions/connect_scouted": False,  # what it dials may be away for long
        },
        identity=identity,
    )


def _on_event(event: zenoh.LinkEvent) -> None:
    if event.kind == zenoh.SampleKind.PUT:
        never_linger(event.link)
