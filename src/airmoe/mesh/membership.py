"""Who belongs to the mesh, as a running session knows it: newer rosters are taken while it runs.

Whoever a newer roster leaves out is cut off at once. Whom it adds, and what it lets a node serve besides, is
let in once the session is opened anew: Zenoh reads its access control once.
"""

import datetime
import threading
from collections.abc import Callable

from airmoe.errors import IdentityError
from airmoe.mesh.credentials import read_certificate
from airmoe.mesh.identity import AUTHORITY, ROSTER, Identity
from airmoe.mesh.log import mesh_log
from airmoe.mesh.roster import Roster, SignedRoster, name_of, read_roster, write_roster

WARNED_S = 7 * 86400
"""How long before its end a certificate is said to be soon over."""

LOOKED_AT_S = 600.0
"""How often it is looked how long the certificate holds, at least."""


def any_node(node: int) -> bool:
    """Admit every node, as a session without identity does."""
    return True


class Membership:
    """The roster that a session goes by, from that of its identity on.

    ``identity`` has the roster of now, and ``signed`` is that roster as the authority signed it. Those in
    ``left_out`` are told the names that a newer one leaves out. ``changed`` is set where somebody is linked
    or a roster is taken: others may have a newer one, or may not have this one yet.

    Args:
        identity: of the session.
        signed: its roster; default as its folder has it.

    Raises:
        IdentityError: the folder's files are not right.
    """

    def __init__(self, identity: Identity, signed: SignedRoster | None = None) -> None:
        self.identity = identity
        self.authority = read_certificate(identity.folder / AUTHORITY)
        self._file = identity.folder / ROSTER
        self.signed = read_roster(self._file) if signed is None else signed
        self._taking, self.changed = threading.Lock(), threading.Event()
        self._age = "new"
        self.left_out: list[Callable[[frozenset[str]], None]] = []

    def admits(self, name: str) -> bool:
        """Return whether a name belongs to the mesh."""
        return name in self.identity.names

    def admits_node(self, node: int) -> bool:
        """Return whether a node belongs to the mesh."""
        return name_of(node) in self.identity.names

    def take(self, signed: SignedRoster) -> bool:
        """Go by a roster from now on, and store it; return False where it is the one of now.

        Raises:
            IdentityError: the authority did not sign it, it is older or of another mesh, or it cannot be
                stored.
        """
        roster = signed.verified(self.authority)
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
            self.signed = signed
            for tell in self.left_out:
                tell(gone)
            try:
                write_roster(self._file, signed)
            except OSError as error:
                why = f"{error.strerror}: after a restart this node goes by the older one again"
                raise IdentityError(f"the roster cannot be stored in {self._file}: {why}") from None
            finally:
                self._tell(known, gone)
            self.changed.set()
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

    def tell_age(self) -> float:
        """Log that the certificate is soon over, or is over; return the seconds until the next look at it."""
        left_s = (self.identity.ends - datetime.datetime.now(datetime.UTC)).total_seconds()
        age = "over" if left_s <= 0 else "soon over" if left_s <= WARNED_S else "new"
        if age != self._age:
            self._age, until = age, f"{self.identity.ends:%Y-%m-%d %H:%M} UTC"
            name, then = self.identity.name, "renew it; a process that only asks has to be started anew"
            if age == "over":
                mesh_log.error("the certificate of %s held until %s: nobody is linked; %s", name, until, then)
            elif age == "soon over":
                mesh_log.warning("the certificate of %s holds until %s: %s", name, until, then)
        return LOOKED_AT_S if left_s <= 0 else min(max(left_s, 0.1), LOOKED_AT_S)
