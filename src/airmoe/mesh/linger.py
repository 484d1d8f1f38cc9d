"""The end of a link never waits.

When the lease of a dead link is over, Zenoh closes its socket in the thread that receives from all others.
Zenoh sets SO_LINGER to 10 s: where a peer vanished silently and bytes for it are left, that thread waits in
the kernel, and every other link stands still. Without SO_LINGER the kernel sends what is left by itself.
Zenoh has no setting for it, so this looks for the link's socket among those of the process. Linux only.
"""

import os
import socket
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import zenoh

from airmoe.mesh.locators import host_and_port

_OPEN = Path("/proc/self/fd")
_NEVER = struct.pack("ii", 0, 0)


def never_linger(link: zenoh.Link) -> bool:
    """Have the kernel close a link's socket at once; return whether the socket was found.

    No other socket of the process is touched.
    """
    return _at_socket_of(link, lambda found: found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NEVER))


def cut(link: zenoh.Link) -> bool:
    """End a link at once, for which Zenoh has no call; return whether its socket was found."""
    return _at_socket_of(link, lambda found: found.shutdown(socket.SHUT_RDWR))


def _at_socket_of(link: zenoh.Link, act: Callable[[socket.socket], None]) -> bool:
    """Do something to the socket of a link; return whether it was found."""
    ends = host_and_port(link.src), host_and_port(link.dst)
    if None in ends:
        return False
    for duplicate in _sockets():
        with suppress(OSError), duplicate:
            if (duplicate.getsockname()[:2], duplicate.getpeername()[:2]) == ends:
                act(duplicate)
                return True
    return False


def _sockets() -> Iterator[socket.socket]:
    """Yield a duplicate of every open socket of the process; an option set on it is set on both.

    The newest comes first: links are looked for when they are new.
    """
    opened = [int(each.name) for each in _OPEN.iterdir()] if _OPEN.is_dir() else []
    for descriptor in sorted(opened, reverse=True):
        with suppress(OSError):  # closed meanwhile
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                continue
            duplicate = os.dup(descriptor)
            try:
                duplicated = socket.socket(fileno=duplicate)
            except OSError:
                os.close(duplicate)
                raise
            yield duplicated
