"""Flower's SuperNode as a child of the node's resident process. Run as a script: it needs nothing of airmoe.

It differs from Flower's own command in two points. It ends when the process does that started it. And it asks
the SuperLink for messages every `IDLE_S` seconds, where Flower 1.41 waits 3 s and has no setting for it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import SimpleNamespace

IDLE_S = 1.0
"""How long a SuperNode waits before it asks again. Each question costs the SuperLink about 10 ms."""

LOOKS_EVERY_S = 0.2
"""How often it looks whether its parent lives."""


def main() -> None:
    """Run Flower's own command with the arguments of this one, of which the first is the parent's number."""
    parent = int(sys.argv.pop(1))

    from flwr.supernode import start_client_internal
    from flwr.supernode.cli import flower_supernode

    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    start_client_internal.time = SimpleNamespace(sleep=lambda wait_s: time.sleep(min(wait_s, IDLE_S)))
    flower_supernode()


def _end_with(parent: int) -> None:
    # Flower's own watch takes a parent that is dead, but not yet waited for, to be alive.
    while os.getppid() == parent:
        time.sleep(LOOKS_EVERY_S)
    signal.raise_signal(signal.SIGINT)


if __name__ == "__main__":
    main()
