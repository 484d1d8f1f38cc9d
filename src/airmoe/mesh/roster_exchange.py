"""Rosters that go from session to session, so that the newest reaches everybody.

    airmoe/<mesh>/roster/<node>/from/<name>      asked with a roster in it: take it; with nothing: send yours

A session asks whoever is linked for theirs, and brings one that it took to all others. So it also reaches
clients, who listen nowhere.
"""

import queue
import threading
from contextlib import suppress

import zenoh

from airmoe.errors import IdentityError
from airmoe.mesh.ending import ends_with_process, needs_no_wait
from airmoe.mesh.keys import ANYBODY, asked_key, roster_key
from airmoe.mesh.log import about, mesh_log
from airmoe.mesh.membership import Membership
from airmoe.mesh.queries import refuse
from airmoe.mesh.roster import SignedRoster, roster_of_peer

TAKEN, KNOWN = b"taken", b"known"
"""What a node answers to whom brings it a roster."""

SETTLED_S, LOOKING_S = 0.3, 2.0
"""How long after a link others are asked for their roster, and how long their answers may take."""

MOST_QUESTIONS = 256
"""How many questions about the roster may wait: all who are linked anew ask for it."""

MOST_BROUGHT = 8
"""How many may wait before one that brings a roster, which may be large, is refused."""


class RosterExchange:
    """Exchanges rosters with whoever is linked, until `close`.

    Args:
        session: an open Zenoh session.
        membership: what it goes by.
    """

    def __init__(self, session: zenoh.Session, membership: Membership) -> None:
        self._session, self._membership = session, membership
        self._ended = threading.Event()
        self._questions: queue.Queue[tuple[zenoh.Query, str] | None] = queue.Queue(MOST_QUESTIONS)
        identity = membership.identity
        own = asked_key(roster_key(identity.roster.mesh, identity.node), ANYBODY)
        direct = zenoh.handlers.Callback(self._asked, indirect=False)
        self._answers = session.declare_queryable(own, direct)
        self._threads = [
            threading.Thread(target=self._look, name="airmoe roster", daemon=True),
            threading.Thread(target=self._answer, name="airmoe roster answers", daemon=True),
        ]
        for thread in self._threads:
            thread.start()
            ends_with_process(thread, self._stop)

    def close(self) -> None:
        """Take no roster any more. Closing twice does no harm."""
        if self._ended.is_set():
            return
        self._stop()
        for thread in self._threads:
            thread.join(LOOKING_S)
            needs_no_wait(thread)  # else it would keep this, and the session, for ever
        self._answers.undeclare()

    def _stop(self) -> None:
        self._ended.set()
        self._membership.changed.set()
        with suppress(queue.Full):
            self._questions.put_nowait(None)

    def _look(self) -> None:
        """Ask whoever is linked for newer rosters, and bring them the one that was taken last."""
        membership = self._membership
        told = membership.signed
        while not self._ended.is_set():
            if not membership.changed.wait(membership.tell_age()):
                continue
            membership.changed.clear()
            if told is membership.signed:
                self._ended.wait(SETTLED_S)  # others link, too, and are asked with the same words
                data = b""
            else:
                told = membership.signed
                data = told.encoded()
            if not self._ended.is_set() and not self._say(data):
                return

    def _say(self, data: bytes) -> bool:
        """Ask all for their roster, or bring them one; return False where the session is closed."""
        identity = self._membership.identity
        try:
            replies = self._session.get(
                asked_key(f"airmoe/{identity.roster.mesh}/roster/*", identity.name),
                payload=data,
                timeout=LOOKING_S,
                target=zenoh.QueryTarget.ALL,
                consolidation=zenoh.ConsolidationMode.NONE,
            )
        except zenoh.ZError:
            return False
        for reply in () if data else replies:
            self._answered(reply)
        return True

    def _answered(self, reply: zenoh.Reply) -> None:
        if reply.ok is None:
            return
        whom = str(reply.ok.key_expr)
        try:
            signed = roster_of_peer(reply.ok.payload.to_bytes(), self._membership.authority)
            if self._is_newer(signed, whom):
                self._membership.take(signed)
        except IdentityError as error:
            mesh_log.warning("a roster of a peer is not taken: %s", error, extra=about(whom))

    def _is_newer(self, signed: SignedRoster, whom: str) -> bool:
        now, told = self._membership.identity.roster, signed.roster
        if told.number == now.number and told != now:
            what = "a peer goes by another roster with number %d, too: the authority has to sign a newer one"
            mesh_log.error(what, now.number, extra=about(whom))
        return told.number > now.number

    def _asked(self, query: zenoh.Query) -> None:
        """Have another thread answer: to read a large roster takes a while."""
        asker = str(query.key_expr).rpartition("/from/")[2]  # all nodes may be asked at once
        if not self._membership.admits(asker):
            query.drop()  # it is cut off, which is told
            return
        waiting, brings = self._questions.qsize(), bool(query.payload)
        try:
            if brings and waiting >= MOST_BROUGHT:
                raise queue.Full
            self._questions.put_nowait((query, asker))
        except queue.Full:
            refuse(query, f"{waiting} questions about the roster wait already")

    def _answer(self) -> None:
        while (question := self._questions.get()) is not None and not self._ended.is_set():
            self._answer_one(*question)

    def _answer_one(self, query: zenoh.Query, asker: str) -> None:
        membership = self._membership
        data = b"" if query.payload is None else query.payload.to_bytes()
        identity = membership.identity
        own = asked_key(roster_key(identity.roster.mesh, identity.node), asker)
        try:
            if not data:
                answer = membership.signed.encoded()
            elif membership.take(roster_of_peer(data, membership.authority)):
                answer = TAKEN
            else:
                answer = KNOWN
            query.reply(own, answer)
            query.drop()
        except IdentityError as error:
            refuse(query, str(error))
        except zenoh.ZError as error:
            mesh_log.info("%s did not get the roster: %s", asker, error, extra=about(asker))
