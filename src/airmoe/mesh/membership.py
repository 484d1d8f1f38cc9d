"""Who belongs to the mesh, as a running session knows it: rosters are taken while it runs.

    airmoe/<mesh>/roster/<node>/from/<name>      asked with a roster in it: take it; with nothing: send yours

A session asks whoever is linked for theirs, and brings one that it took to all others. So it also reaches
clients, who listen nowhere.

Whoever a newer roster leaves out is cut off at once. Whom it adds, and what it lets a node serve besides, is
let in once the session is opened anew: Zenoh reads its access control once.
"""

import datetime
import threading
import time
from collections.abc import Callable

import zenoh

from airmoe.errors import IdentityError
from airmoe.mesh.credentials import read_certificate
from airmoe.mesh.ending import ends_with_process
from airmoe.mesh.identity import AUTHORITY, ROSTER, Identity
from airmoe.mesh.keys import ANYBODY, asked_key, roster_key
from airmoe.mesh.log import about, mesh_log
from airmoe.mesh.queries import refuse
from airmoe.mesh.roster import Roster, SignedRoster, decode_roster, name_of, read_roster, write_roster

TAKEN, KNOWN = b"taken", b"known"
"""What a node answers to whom brings it a roster."""

SETTLED_S, LOOKING_S = 0.3, 2.0
"""How long after a link others are asked for their roster, and how long their answers may take."""

WARNED_S = 7 * 86400
"""How long before its end a certificate is said to be soon over."""

LOOKED_AT_S = 600.0
"""How often it is looked how long the certificate holds, at least."""


def any_node(node: int) -> bool:
    """Admit every node, as a session without identity does."""
    return True


class Membership:
    """The roster that a session goes by, from that of its identity on.

    ``identity`` has the roster of now. ``left_out`` is told the names that a newer one leaves out.

    Args:
        identity: of the session.
    """

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self._file, self._authority = identity.folder / ROSTER, read_certificate(identity.folder / AUTHORITY)
        self._taking, self._linked, self._ends = threading.Lock(), threading.Event(), False
        self._leave: Callable[[], None] = _nothing
        self._taken: SignedRoster | None = None
        self._age = "new"
        self.left_out: Callable[[frozenset[str]], None] = lambda names: None

    def admits(self, name: str) -> bool:
        """Return whether a name belongs to the mesh."""
        return name in self.identity.names

    def admits_node(self, node: int) -> bool:
        """Return whether a node belongs to the mesh."""
        return name_of(node) in self.identity.names

    def is_newer(self, signed: SignedRoster) -> bool:
        """Return whether a roster, which the authority must have signed, is newer than that of now."""
        return signed.verified(self._authority).number > self.identity.roster.number

    def take(self, signed: SignedRoster) -> bool:
        """Go by a roster from now on, and store it; return False where it is the one of now.

        Raises:
            IdentityError: the authority did not sign it, it is older or of another mesh, or it cannot be
                stored.
        """
        roster = signed.verified(self._authority)
        with self._taking:
            known = self.identity.roster
            if roster.mesh != known.mesh:
                raise IdentityError(f"the roster is of mesh {roster.mesh!r}; expected {known.mesh!r}")
            if roster == known:
                return False
            if roster.number <= known.number:
                raise IdentityError(
                    f"the roster has number {roster.number}; expected more than {known.number}"
                )
            before, self.identity = self.identity.names, self.identity.with_roster(roster)
            gone = before - self.identity.names
            self._taken = signed
            self.left_out(gone)
            try:
                write_roster(self._file, signed)
            except OSError as error:
                why = f"{error.strerror}: after a restart this node goes by the older one again"
                raise IdentityError(f"the roster cannot be stored in {self._file}: {why}") from None
            finally:
                self._tell(known, gone)
            self._linked.set()  # others may not have it yet
        return True

    def _tell(self, before: Roster, gone: frozenset[str]) -> None:
        now = self.identity.roster
        out = f"; {', '.join(sorted(gone))} left out" if gone else ""
        mesh_log.warning("roster %d in place of %d%s", now.number, before.number, out)
        added = [member for member in now.members if before.member(member.node) not in (member, None)]
        added += [member for member in now.members if before.member(member.node) is None]
        if added:
            names = ", ".join(member.name for member in added)
            mesh_log.warning(
                "roster %d changes %s: that holds once this session is opened anew", now.number, names
            )
        if not self.admits(self.identity.name):
            mesh_log.error("%s is no longer in the roster: nobody asks it or answers it", self.identity.name)

    def join(self, session: zenoh.Session) -> None:
        """Exchange rosters with whoever is linked, until `close`: the newest one reaches everybody."""
        mesh, node = self.identity.roster.mesh, self.identity.node
        own = asked_key(roster_key(mesh, node), ANYBODY)
        answers = session.declare_queryable(own, zenoh.handlers.Callback(self._asked, indirect=False))
        thread = threading.Thread(target=self._look, args=(session,), name="airmoe roster", daemon=True)
        thread.start()
        ends_with_process(thread, self.close)

        def leave() -> None:
            self._ends = True
            self._linked.set()
            thread.join(LOOKING_S)
            answers.undeclare()

        self._leave = leave

    def close(self) -> None:
        """Take no roster any more. Closing twice does no harm."""
        leave, self._leave = self._leave, _nothing
        leave()

    def linked(self) -> None:
        """Be told, on any thread, that somebody is linked, who may have a newer roster."""
        self._linked.set()

    def _look(self, session: zenoh.Session) -> None:
        """Ask whoever is linked for newer rosters, and bring them the one that was taken last."""
        told: SignedRoster | None = None
        while not self._ends:
            if not self._linked.wait(self._tell_age()):
                continue
            self._linked.clear()
            if told is self._taken:
                time.sleep(SETTLED_S)  # others link, too, and are asked with the same words
                data = b""
            else:
                told = self._taken
                data = b"" if told is None else told.encoded()
            if not self._ends and not self._say(session, data):
                return

    def _tell_age(self) -> float:
        """Log that the certificate is soon over, or is over; return the seconds until the next look at it."""
        left_s = (self.identity.ends - datetime.datetime.now(datetime.UTC)).total_seconds()
        age = "over" if left_s <= 0 else "soon over" if left_s <= WARNED_S else "new"
        if age != self._age:
            self._age, until = age, f"{self.identity.ends:%Y-%m-%d %H:%M} UTC"
            name, then = self.identity.name, "renew it, and start this process anew"
            if age == "over":
                mesh_log.error("the certificate of %s held until %s: nobody is linked; %s", name, until, then)
            elif age == "soon over":
                mesh_log.warning("the certificate of %s holds until %s: %s", name, until, then)
        return LOOKED_AT_S if left_s <= 0 else min(max(left_s, 0.1), LOOKED_AT_S)

    def _say(self, session: zenoh.Session, data: bytes) -> bool:
        """Ask all for their roster, or bring them one; return False where the session is closed."""
        everybody = f"airmoe/{self.identity.roster.mesh}/roster/*"
        try:
            replies = session.get(
                asked_key(everybody, self.identity.name),
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
            signed = decode_roster(reply.ok.payload.to_bytes(), "the roster of a peer")
            if self.is_newer(signed):
                self.take(signed)
        except IdentityError as error:
            mesh_log.warning("a roster of a peer is not taken: %s", error, extra=about(whom))

    def _asked(self, query: zenoh.Query) -> None:
        asker = str(query.key_expr).rpartition("/from/")[2]
        data = b"" if query.payload is None else query.payload.to_bytes()
        own = asked_key(roster_key(self.identity.roster.mesh, self.identity.node), asker)
        try:
            if data:
                answer = TAKEN if self.take(decode_roster(data, "the roster")) else KNOWN
            else:
                answer = read_roster(self._file).encoded()
            query.reply(own, answer)
            query.drop()
        except IdentityError as error:
            refuse(query, str(error))
        except zenoh.ZError as error:
            mesh_log.info("%s did not get the roster: %s", asker, error, extra=about(asker))


def _nothing() -> None:
    """What is left to do once it is done."""
