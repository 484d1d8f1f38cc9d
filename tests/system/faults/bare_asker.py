"""A bare Zenoh session that asks a node and never holds back, as no client of ours would."""

import itertools
import os
import threading
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import zenoh

from airmoe.manifest import read_manifest
from airmoe.mesh import Membership, open_session
from airmoe.mesh.frame import Frame, Kind, encode
from airmoe.mesh.keys import asked_key, expert_key
from airmoe.mesh.request_queue import CREDITS, OVERLOADED
from tests.mesh.steering import wait_until
from tests.system.faults.identities import identity_here

DEADLINE_S = 0.5
_PUNCTUAL_S = 0.05
_HELLOS = 5
"""How often an asker asks at first, so that the node knows what a request takes."""

_LISTENS_S = 0.5
"""How long after its deadline an asker still hears what comes."""


@dataclass(frozen=True)
class Tally:
    """What became of the requests of one asker.

    Attributes:
        sent: how many it sent.
        came: what came, by kind: "in time", "late", "overloaded", "refused".
        overloaded_s: how long after it was sent each request was refused as one too many.
    """

    sent: int
    came: Counter[str]
    overloaded_s: tuple[float, ...]


class BareAsker:
    """Asks one node about batches of one size.

    Args:
        client_folder: of the node.
        address: of the node.
        items: how many items each request has.
        name: what it calls itself.
        core: the core that this process is to run on, if it matters.
    """

    def __init__(
        self, client_folder: Path, address: str, items: int, name: str, core: int | None = None
    ) -> None:
        run_on(core)
        manifest = read_manifest(client_folder)
        node, (layer,) = manifest.node, manifest.layers
        identity = identity_here(client_folder)
        membership = None if identity is None else Membership(identity)
        self._session = open_session(connect=[address], membership=membership)
        name = name if identity is None else identity.name
        self._key = asked_key(expert_key(manifest.mesh, manifest.model_hash, layer.layer, node, node), name)
        payload_T = np.random.default_rng(items).random((items, *layer.payload), np.float32)
        place = 0, manifest.model_hash, layer.layer, node, int(DEADLINE_S * 1000)
        self._request = Frame(Kind.PAYLOADS, {"payload": payload_T}, *place, expert_hash=layer.hashes[node])
        self._lock, self._ids = threading.Lock(), itertools.count(1)
        self._sent = self._open = 0
        self._came, self._overloaded_s = Counter[str](), list[float]()
        hello = encode(self._request)
        for _ in range(_HELLOS):
            wait_until(lambda: any(reply.ok for reply in self._session.get(self._key, payload=hello)), 30)

    def at_rate(self, rate: float, seconds: float) -> Tally:
        """Send so many requests a second, whatever comes back; none is sent later than `_PUNCTUAL_S`."""
        begin_s = time.monotonic()
        for number in range(int(rate * seconds)):
            due_s = begin_s + number / rate
            if (wait_s := due_s - time.monotonic()) > 0:
                time.sleep(wait_s)
            if -wait_s < _PUNCTUAL_S:
                self._send(due_s + DEADLINE_S)
        time.sleep(DEADLINE_S)
        return self._tally()

    def with_open(self, window: int, seconds: float) -> Tally:
        """Have so many requests open at any time."""
        begin_s = time.monotonic()
        while (now_s := time.monotonic()) < begin_s + seconds:
            if self._open < window:
                self._send(now_s + DEADLINE_S)
            else:
                time.sleep(0.0001)
        return self._tally()

    def once_more(self, times: int) -> Tally:
        """Fill what an asker may have waiting at a node that never answers, and ask once more, and again."""
        end_s = time.monotonic() + 60.0
        for _ in range(CREDITS + 1):  # one of them is at work
            self._send(end_s)
        time.sleep(0.5)
        for number in range(times):
            self._send(end_s)
            wait_until(lambda number=number: len(self._overloaded_s) > number)  # type: ignore[misc]
        return self._tally()

    def close(self) -> None:
        self._session.close()

    def _send(self, end_s: float) -> None:
        sent_s = time.monotonic()
        left_ms = int((end_s - sent_s) * 1000)
        request = replace(self._request, request_id=next(self._ids), remaining_ms=left_ms)
        with self._lock:
            self._sent += 1
            self._open += 1

        def arrived(reply: zenoh.Reply) -> None:
            now_s = time.monotonic()
            with self._lock:
                if reply.ok is not None:
                    self._came["in time" if now_s <= end_s else "late"] += 1
                elif reply.err is not None and reply.err.payload.to_bytes().startswith(OVERLOADED.encode()):
                    self._came["overloaded"] += 1
                    self._overloaded_s.append(now_s - sent_s)
                else:
                    self._came["refused"] += 1

        def over() -> None:
            with self._lock:
                self._open -= 1

        self._session.get(
            self._key,
            zenoh.handlers.Callback(arrived, over, indirect=False),
            payload=encode(request),
            timeout=end_s - sent_s + _LISTENS_S,
            congestion_control=zenoh.CongestionControl.BLOCK,
            consolidation=zenoh.ConsolidationMode.NONE,
        )

    def _tally(self) -> Tally:
        with self._lock:
            tally = Tally(self._sent, self._came, tuple(self._overloaded_s))
            self._sent, self._came, self._overloaded_s = 0, Counter(), []
        return tally


def run_on(core: int | None, pid: int | str = "self") -> None:
    """Have all threads of a process run on one core, if one is named."""
    for task in Path(f"/proc/{pid}/task").iterdir() if core is not None else ():
        os.sched_setaffinity(int(task.name), {core})
