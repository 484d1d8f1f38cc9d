"""More requests than a node can compute: what comes in time, how soon the rest is refused, what is held.

The node runs on one core and its askers on another, as if on two machines. Its expert needs more processor
time than the run's: those compute so fast that no asker on one core can ask three times as much.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from airmoe.mesh import MeshClient
from airmoe.mesh.request_queue import CREDITS
from tests.mesh.steering import prefer
from tests.system.faults.bare_asker import BareAsker, Tally, run_on
from tests.system.faults.elsewhere import elsewhere, together
from tests.system.faults.identities import identity_here
from tests.system.faults.mesh import FOUND_S, FaultyMesh, resident_mb

NODE = 1
ASKERS = 4
FACTOR = 3.0
BURDEN_S = {8: 0.001, 64: 0.002, 512: 0.008}
"""Processor time that the expert needs more for a request of so many items."""

GREED_BURDEN_S = 0.004

_WINDOW = 2
"""How many requests each asker has open while the capacity is measured."""


@dataclass(frozen=True)
class Overload:
    """A node that is asked for what it can do, and for three times as much.

    Attributes:
        items: of each request.
        capacity: requests a second that it answers when a few are open at any time.
        in_time_at_1, in_time_at_3: answers in time a second, of each round.
        sent_at_3: requests a second that were sent then, as a multiple of the capacity.
        came_at_3: what became of them, as shares.
        overloaded_s: the median and the 99th percentile of how soon one too many was refused, or NaN.
        more_mb: how much resident memory grew at most, from before the first request.
    """

    items: int
    capacity: float
    in_time_at_1: tuple[float, ...]
    in_time_at_3: tuple[float, ...]
    sent_at_3: float
    came_at_3: dict[str, float]
    overloaded_s: tuple[float, float]
    more_mb: float

    @property
    def kept(self) -> float:
        """Goodput at three times the capacity as a share of that at once: the median of the rounds."""
        return float(np.median(np.divide(self.in_time_at_3, self.in_time_at_1)))


def overload(run: Path, items: int, phase_s: float, rounds: int = 3) -> Overload:
    """Ask a node for its capacity and for three times as much, in turns."""
    apart = cores()
    with FaultyMesh(run, absent=_all_but(run, NODE)) as mesh:
        run_on(apart[0], mesh.pid(NODE))
        mesh.burden(NODE, BURDEN_S[items])
        place = mesh.folders[NODE], mesh.addresses[NODE], items
        each = [(*place, f"asker-{number}", apart[1]) for number in range(ASKERS)]
        with elsewhere(BareAsker, each) as askers, most_resident_mb(mesh.pid(NODE)) as most_mb:
            together(askers, "with_open", _WINDOW, 0.5)
            # Whatever else the machine does makes it less, never more.
            capacity = max(_rate(together(askers, "with_open", _WINDOW, 1.0), 1.0) for _ in range(3))
            at: dict[float, list[float]] = {1.0: [], FACTOR: []}
            for factor in (1.0, FACTOR) * rounds:
                tallies = together(askers, "at_rate", factor * capacity / ASKERS, phase_s)
                at[factor].append(_rate(tallies, phase_s))
            came = sum((tally.came for tally in tallies), start=type(tallies[0].came)())
            overloaded_s = np.concatenate([tally.overloaded_s for tally in tallies])
        quantiles = np.quantile(overloaded_s, [0.5, 0.99]) if overloaded_s.size else [np.nan] * 2
        sent = sum(tally.sent for tally in tallies)
        return Overload(
            items,
            capacity,
            tuple(at[1.0]),
            tuple(at[FACTOR]),
            sent / phase_s / capacity,
            {what: round(count / sent, 3) for what, count in came.items()},
            (float(quantiles[0]), float(quantiles[1])),
            most_mb[1] - most_mb[0],
        )


@dataclass(frozen=True)
class FullQueue:
    """A node whose expert never answers, and an asker that has all waiting that it may.

    Attributes:
        refused_s: how soon each request more was refused.
        waiting_mb: what waits, in MB.
        more_mb: how much resident memory grew at most.
    """

    refused_s: tuple[float, ...]
    waiting_mb: float
    more_mb: float


def full_queue(run: Path, items: int, times: int) -> FullQueue:
    """Fill what an asker may have waiting, and ask once more, so many times."""
    with FaultyMesh(run, absent=_all_but(run, NODE)) as mesh:
        place = mesh.folders[NODE], mesh.addresses[NODE], items, "asker"
        with elsewhere(BareAsker, [place]) as (asker,), most_resident_mb(mesh.pid(NODE)) as most_mb:
            mesh.slow_down(NODE)
            (tally,) = together([asker], "once_more", times)
        (layer,) = mesh.manifest.layers
    waiting_mb = (CREDITS + 1) * items * int(np.prod(layer.payload)) * 4 / 1e6
    return FullQueue(tally.overloaded_s, waiting_mb, most_mb[1] - most_mb[0])


class Polite:
    """A client that asks one node about some images again and again, a query after the other."""

    def __init__(self, folder: Path, address: str, images_TCHW: NDArray[np.uint8], core: int | None) -> None:
        run_on(core)
        self._client = MeshClient(folder, [address], identity=identity_here(folder))
        self._images_TCHW = images_TCHW
        self._client.wait_for_nodes(1, FOUND_S)
        likes = [0.0] * self._client.layer.spec.experts
        likes[NODE] = 1.0
        self._likes = prefer(*likes)

    def answered(self, seconds: float) -> float:
        """Return how many queries a second the node answered."""
        begin_s, count = time.monotonic(), 0
        while time.monotonic() < begin_s + seconds:
            answer = self._client.predict(self._images_TCHW, gate=self._likes)
            count += int(not answer.degraded_T.any())
        return count / seconds

    def close(self) -> None:
        self._client.close()


@dataclass(frozen=True)
class Greed:
    """What three clients get of a node, in turns alone and beside one that asks three times its capacity.

    Attributes:
        alone, beside: answers a second of each client; medians of the rounds.
        greedy: answers a second of the greedy one.
    """

    alone: tuple[float, ...]
    beside: tuple[float, ...]
    greedy: float

    @property
    def least_kept(self) -> float:
        """The share of its rate that is left to the client that fares worst."""
        return float(np.divide(self.beside, self.alone).min())


def greed(
    run: Path, images_TCHW: NDArray[np.uint8], phase_s: float, rounds: int = 3, clients: int = 3
) -> Greed:
    """Let clients ask one node, alone and beside a greedy asker."""
    apart, items = cores(), len(images_TCHW)
    with FaultyMesh(run, absent=_all_but(run, NODE)) as mesh:
        run_on(apart[0], mesh.pid(NODE))
        mesh.burden(NODE, GREED_BURDEN_S)
        address = mesh.addresses[NODE]
        others = [number for number in range(len(mesh.folders)) if number != NODE][:clients]
        polite_each = [(mesh.folders[number], address, images_TCHW, apart[1]) for number in others]
        greedy_each = [(mesh.folders[NODE], address, items, "greedy", apart[1])]
        with elsewhere(Polite, polite_each) as polite, elsewhere(BareAsker, greedy_each) as (greedy,):
            capacity = max(_rate(together([greedy], "with_open", 2 * ASKERS, 1.0), 1.0) for _ in range(3))
            alone, beside, got = [], [], []
            for _ in range(rounds):
                alone.append(together(polite, "answered", phase_s))
                greedy.begin("at_rate", FACTOR * capacity, phase_s)
                beside.append(together(polite, "answered", phase_s))
                got.append(_rate([greedy.result()], phase_s))
        alone_C, beside_C = np.median(alone, axis=0), np.median(beside, axis=0)
        return Greed(tuple(alone_C.tolist()), tuple(beside_C.tolist()), float(np.median(got)))


def _rate(tallies: list[Tally], seconds: float) -> float:
    return sum(tally.came["in time"] for tally in tallies) / seconds


def cores() -> tuple[int | None, int | None]:
    """One core for a node and another for its askers, where there are two."""
    found = sorted(os.sched_getaffinity(0))
    return (found[0], found[1]) if len(found) > 1 else (None, None)


@contextmanager
def most_resident_mb(pid: int) -> Iterator[list[float]]:
    """Give the resident memory of a process now, and the most that it has until the block ends."""
    found = [resident_mb(pid)] * 2
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            found[1] = max(found[1], resident_mb(pid))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield found
    finally:
        ended.set()
        watching.join()


def _all_but(run: Path, node: int) -> list[int]:
    folders = sorted((run / "clients").iterdir())
    return [number for number in range(len(folders)) if number != node]
