"""A door to a session that listens nowhere: other sessions of its process find it, and nobody else does.

The session listens at a Unix socket whose file is removed as soon as it listens. A descriptor of this process
leads to it from then on. Linux only.
"""

import os
import secrets
import tempfile
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

import zenoh

_DESCRIPTORS = Path("/proc/self/fd")


class Door:
    """The way to a session; it lasts as long as this object.

    Args:
        descriptor: leads to the session's socket, and is closed in the end.
    """

    def __init__(self, descriptor: int) -> None:
        self.locator = f"unixsock-stream/{_DESCRIPTORS}/{descriptor}"
        weakref.finalize(self, os.close, descriptor)


def open_with_door(open_at: Callable[[Sequence[str]], zenoh.Session]) -> tuple[zenoh.Session, Door | None]:
    """Return a session that listens where ``open_at`` is told to, and its door; None where there is none."""
    if not _DESCRIPTORS.is_dir() or not hasattr(os, "O_PATH"):
        return open_at([]), None
    # Gossip tells the name to others, so it says nothing of this machine. It is like no other, since Zenoh
    # removes it once more when the session ends: the number may be another folder's by then.
    name = f"airmoe-{secrets.token_hex(8)}"
    try:
        made = tempfile.TemporaryDirectory()
    except OSError:  # no folder can be written to, as in a container that is read-only
        return open_at([]), None
    with made as folder:
        place = os.open(folder, os.O_PATH)
        try:
            session = open_at([f"unixsock-stream/{_DESCRIPTORS}/{place}/{name}"])
            return session, Door(os.open(Path(folder, name), os.O_PATH))
        finally:
            os.close(place)
