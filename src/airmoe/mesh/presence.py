"""What a node is on the network: a session, who belongs to the mesh, and what is declared there.

A node may have two for a moment: it goes on in a new session before it leaves the old one.
"""

import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import zenoh

from airmoe.files import AnyPath
from airmoe.mesh.identity import Identity
from airmoe.mesh.membership import Membership
from airmoe.mesh.queries import anybody
from airmoe.mesh.roster import Roster, SignedRoster
from airmoe.mesh.roster_exchange import RosterExchange
from airmoe.mesh.session import close_session, open_session

LOOK_S = 0.02


class Presence:
    """A session of a node, and what is declared in it.

    ``session`` is Zenoh's, ``listen`` where it listens, ``membership`` who belongs to the mesh and ``admits``
    asks it; ``requests`` are those that came this way and are not answered yet.

    Args:
        listen: address to listen on.
        connect: addresses to connect to.
        identity: of the node; None without TLS.
        session: an open one to use instead; it stays open.
        signed: the roster of the identity; default as its folder has it.

    Raises:
        AddressError: as `open_session`.
        IdentityError: as `open_session`.
    """

    def __init__(
        self,
        listen: str,
        connect: Sequence[AnyPath],
        identity: Identity | None,
        session: zenoh.Session | None = None,
        signed: SignedRoster | None = None,
    ) -> None:
        self.listen = listen
        self.membership = membership = None if identity is None else Membership(identity, signed)
        self.admits = anybody if membership is None else membership.admits
        self.requests: weakref.WeakSet[object] = weakref.WeakSet()
        self._declared = ExitStack()
        with ExitStack() as open_:
            if session is None:
                session = open_session(listen, connect, membership)
                open_.callback(close_session, session)
                if membership is not None:
                    open_.callback(RosterExchange(session, membership).close)
            self.session, self._allowed = session, () if identity is None else identity.roster.members
            self._open = open_.pop_all()

    @property
    def identity(self) -> Identity | None:
        """The node's, with the roster of now."""
        return None if self.membership is None else self.membership.identity

    def lacks(self, roster: Roster) -> bool:
        """Return whether a roster allows what this session does not: it was opened with another one."""
        return any(member not in self._allowed for member in roster.members)

    def declared(self, withdraw: Callable[[], object]) -> None:
        """Note how something that was declared is withdrawn."""
        self._declared.callback(withdraw)

    def withdraw(self) -> None:
        """Withdraw everything, what was declared last first. Twice does no harm."""
        self._declared.close()

    def close(self) -> None:
        """Leave the network. Twice does no harm."""
        self.withdraw()
        self._open.close()

    def linked(self) -> dict[str, str]:
        """Return the names of all who are linked, by Zenoh's ids of their sessions; none once it is closed.

        A node and the clients that ask from its folder have the same name.
        """
        return {str(link.zid): str(link.auth_identifier) for link in self.session.info.links()}

    def wait_until_answered(self, timeout_s: float) -> bool:
        """Wait until all requests that came this way are answered; return whether they are."""
        return wait_until(lambda: not self.requests, timeout_s)


def wait_until(happened: Callable[[], bool], timeout_s: float) -> bool:
    """Wait until something has happened, or the time is over; return whether it has."""
    end_s = time.monotonic() + timeout_s
    while not (has_happened := happened()) and time.monotonic() < end_s:
        time.sleep(LOOK_S)
    return has_happened
