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

from airmoe.errors import IdentityError
from airmoe.files import AnyPath
from airmoe.mesh.addresses import parse_address
from airmoe.mesh.identity import CERTIFICATE, ROSTER, Identity, read_identity
from airmoe.mesh.log import mesh_log
from airmoe.mesh.presence import Presence, wait_until

LINKING_S = 20.0
"""How long those who are linked may take to be linked with a new session: they dial it every 1.5 to 3 s."""

FOLLOWING_S = 6.0
"""How long further sessions of the same names may take: clients that ask from a node's folder."""

SETTLING_S = 0.5
"""How long they may then take to learn what is declared there."""

CLOSING_S = 1.5
"""How long the requests at hand may take: an expert may hang."""


class RenewedPresence:
    """What a node is on the network, through renewals: one session after the other.

    ``presence`` is the one of now. ``renewing`` is held while a renewal goes on.

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
        self._seen = list[tuple[int, int]]()
        self.renewing = threading.Lock()
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
        """Return whether the certificate in the identity's folder, or what its roster allows, is newer."""
        known = self.presence.identity
        if known is None:
            return False
        with suppress(OSError, IdentityError):  # half of it is written, or it is wrong
            stats = [(known.folder / name).stat() for name in (CERTIFICATE, ROSTER)]
            seen = [(stat.st_mtime_ns, stat.st_size) for stat in stats]
            if seen != self._seen:
                now, self._seen = read_identity(known.folder), seen
                return now.ends != known.ends or self.presence.lacks(now.roster)
        return False

    def renew(self) -> None:
        """Go on with what is in the identity's folder now; see `Node.renew`.

        Raises:
            IdentityError: there is no identity, or the folder's is not right; nothing changes then.
            AddressError: the address cannot be listened at again; the other port serves on.
        """
        with self.renewing:
            before = self.presence
            if before.identity is None:
                raise IdentityError("this node has no identity; expected one, to be renewed")
            identity = read_identity(before.identity.folder)
            self._refuse_unfit(identity)
            bridge = self._moved_to(_beside(self._listen), before, identity, [self._listen])
            self._moved_to(self._listen, bridge, identity, [])

    def _moved_to(self, listen: str, before: Presence, identity: Identity, beside: list[AnyPath]) -> Presence:
        """Serve in a new session, and then no longer in the one before."""
        with ExitStack() as open_:  # closes what is open where a later step fails
            presence = Presence(listen, [*self._connect, *beside], identity)
            open_.callback(presence.close)
            self._declare(presence)
            if not (_names_follow(before, presence, identity) and _sessions_follow(before, presence)):
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


def _names_follow(before: Presence, now: Presence, identity: Identity) -> bool:
    """Wait until a session of each name that is linked with one session is with another; return whether."""
    names = identity.names - {identity.name}
    return wait_until(lambda: set(before.linked().values()) & names <= set(now.linked().values()), LINKING_S)


def _sessions_follow(before: Presence, now: Presence) -> bool:
    """Wait until every session is: of one name there may be a node and clients. Return whether it came so.

    Sessions of nodes that are renewed at the same time do not come: they are left soon.
    """
    own = str(now.session.zid())
    return wait_until(lambda: before.linked().keys() - {own} <= now.linked().keys(), FOLLOWING_S)


def _beside(address: str) -> str:
    """Return an address at the same host with a port that is free."""
    host, _ = parse_address(address, anywhere=True)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        port = probe.getsockname()[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
