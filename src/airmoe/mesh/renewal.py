"""How a node goes on with a newer certificate or a larger roster: in a second session beside the first.

Zenoh reads its access control and its certificate once, when a session opens. So the node serves in a
session at another port until the one at its own port is opened anew.
"""

import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress

import zenoh

from airmoe.errors import AddressError, IdentityError
from airmoe.files import AnyPath
from airmoe.mesh.addresses import parse_address
from airmoe.mesh.identity import CERTIFICATE, ROSTER, Identity, read_identity
from airmoe.mesh.log import mesh_log
from airmoe.mesh.membership import Membership
from airmoe.mesh.presence import Presence, wait_until
from airmoe.mesh.roster import SignedRoster, read_roster, write_roster

LINKING_S = 20.0
"""How long those who are linked may take to be linked with a new session: they dial it every 1.5 to 3 s."""

FOLLOWING_S = 6.0
"""How long further sessions of the same names may take: clients that ask from a node's folder."""

SETTLING_S = 0.5
"""How long they may then take to learn what is declared there."""

AGAIN_S = 5.0
"""How long a node that could not go back to its address waits before it tries again."""

CLOSING_S = 1.5
"""How long the requests at hand may take: an expert may hang."""


class RenewedPresence:
    """What a node is on the network, through renewals: one session after the other.

    ``presence`` is the one of now. ``renewing`` is held while a renewal goes on; it waits for nobody any
    longer once ``ends`` is set.

    Args:
        listen: address to listen on.
        connect: addresses to connect to.
        identity: of the node; None without TLS.
        session: an open one to use instead; it stays open.
        refuse_unfit: raises `IdentityError` for a renewed identity with which the node could not go on.
        declare: declares in a new session what the node serves.

    Raises:
        AddressError: as `open_session`.
        IdentityError: as `open_session`.
    """

    def __init__(
        self,
        listen: str,
        connect: Sequence[AnyPath],
        identity: Identity | None,
        session: zenoh.Session | None,
        refuse_unfit: Callable[[Identity], None],
        declare: Callable[[Presence], None],
    ) -> None:
        self._listen, self._connect = listen, connect
        self._refuse_unfit, self._declare = refuse_unfit, declare
        self._seen, self._told = list[tuple[int, int]](), ""
        self._again_s = 0.0
        self.renewing, self.ends = threading.Lock(), threading.Event()
        self.presence = Presence(listen, connect, identity, session)

    def declare(self) -> None:
        """Declare what the node serves in the first session."""
        self._declare(self.presence)

    def withdraw(self) -> None:
        """Withdraw what is declared. Twice does no harm."""
        self.presence.withdraw()

    def close(self) -> None:
        """Leave the network. Twice does no harm."""
        self.presence.close()

    def is_outdated(self) -> bool:
        """Return whether the certificate in the identity's folder, or what its roster allows, is newer.

        So it is, now and then, while the node is not back at its own address after a renewal.
        """
        known = self.presence.identity
        if known is None:
            return False
        now_s = time.monotonic()
        if self.presence.listen != self._listen and now_s > self._again_s:
            self._again_s = now_s + AGAIN_S
            return True
        try:
            stats = [(known.folder / name).stat() for name in (CERTIFICATE, ROSTER)]
            if (seen := [(stat.st_mtime_ns, stat.st_size) for stat in stats]) == self._seen:
                return False
            self._seen = seen
            now = read_identity(known.folder)
        except (OSError, IdentityError) as error:  # half of it is written, or it is wrong
            self._tell_once(f"what {known.folder} has now is not taken: {error}")
            return False
        return now.ends != known.ends or self.presence.lacks(now.roster)

    def _tell_once(self, line: str) -> None:
        if line != self._told:
            self._told = line
            mesh_log.error("%s", line)

    def renew(self) -> None:
        """Go on with what is in the identity's folder now; see `Node.renew`.

        Raises:
            IdentityError: there is no identity, or the folder's is not right; nothing changes then.
            AddressError: the address cannot be listened at again; the other port serves on.
        """
        with self.renewing:
            before = self.presence
            if before.membership is None:
                raise IdentityError("this node has no identity; expected one, to be renewed")
            identity, signed = self._newest(before.membership)
            self._refuse_unfit(identity)
            if before.listen == self._listen:
                before = self._moved_to(_beside(self._listen), before, identity, signed, [self._listen])
            self._moved_to(self._listen, before, identity, signed, [])

    def _newest(self, known: Membership) -> tuple[Identity, SignedRoster]:
        """Return what the identity's folder has, with the roster of now where the folder's is older.

        It may be, where a newer one could not be stored, or where an old copy was put back.
        """
        identity = read_identity(known.identity.folder)
        file, now = identity.folder / ROSTER, known.identity.roster
        if identity.roster.number >= now.number:
            return identity, read_roster(file)
        if known.identity.name not in known.identity.names:
            raise IdentityError(f"{identity.name} is no longer in roster {now.number}")
        what = "roster %d goes on to hold: %s has the older one of number %d"
        mesh_log.error(what, now.number, file, identity.roster.number)
        with suppress(OSError):  # it holds without
            write_roster(file, known.signed)
        return identity.with_roster(now), known.signed

    def _moved_to(
        self,
        listen: str,
        before: Presence,
        identity: Identity,
        signed: SignedRoster,
        beside: list[AnyPath],
    ) -> Presence:
        """Serve in a new session, and then no longer in the one before."""
        with ExitStack() as open_:  # closes what is open where a later step fails
            presence = Presence(listen, [*self._connect, *beside], identity, signed=signed)
            open_.callback(presence.close)
            self._declare(presence)
            if not self._followed(before, presence, identity):
                mesh_log.warning(
                    "not all who are linked reach the new session at %s: they may lose queries", listen
                )
            time.sleep(SETTLING_S)
            open_.pop_all()
        self.presence = presence
        before.withdraw()
        if not before.wait_until_answered(CLOSING_S):
            mesh_log.warning("the session before is closed with requests that are not answered")
        before.close()
        return presence

    def _followed(self, before: Presence, now: Presence, identity: Identity) -> bool:
        """Wait until whoever is linked with one session is with another, too; return whether it came so.

        A session of each name comes first. Of one name there may be a node and clients, so all sessions are
        awaited, for a moment: those of nodes that are renewed at the same time do not come.
        """
        others, own = identity.names - {identity.name}, str(now.session.zid())

        def names_follow() -> bool:
            names = set(before.linked().values()) & others
            return self.ends.is_set() or names <= set(now.linked().values())

        def sessions_follow() -> bool:
            return self.ends.is_set() or before.linked().keys() - {own} <= now.linked().keys()

        return wait_until(names_follow, LINKING_S) and wait_until(sessions_follow, FOLLOWING_S)


def _beside(address: str) -> str:
    """Return an address at the same host with a port that is free."""
    host, _ = parse_address(address, anywhere=True)
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.bind((host, 0))
            port = probe.getsockname()[1]
    except OSError as error:
        raise AddressError(f"cannot listen beside {address}: {error.strerror}") from None
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
