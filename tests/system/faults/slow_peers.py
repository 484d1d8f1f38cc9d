"""Queries while peers are frozen, wedged or slow: how long they take and how many there are."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from airmoe.mesh import MeshClient
from tests.mesh.steering import prefer, trusted
from tests.system.faults.mesh import FOUND_S, FaultyMesh

SLOW_S = 0.3
TINY_DEADLINE_S = 0.005


@dataclass(frozen=True)
class Pace:
    """Queries of one image after another, for some time.

    Attributes:
        rate: queries a second.
        slowest_s, p50_s: of a query.
        marked: the share of degraded answers.
    """

    rate: float
    slowest_s: float
    p50_s: float
    marked: float


@dataclass(frozen=True)
class Slowed:
    """What a fault does to the pace, in turns with phases without it.

    Attributes:
        healthy: before and after each phase with the fault.
        faulty: while the fault lasted.
    """

    healthy: tuple[Pace, ...]
    faulty: tuple[Pace, ...]

    @property
    def slowest_s(self) -> float:
        """What the slowest query under the fault took."""
        return max(pace.slowest_s for pace in self.faulty)

    @property
    def rate_ratio(self) -> float:
        """Throughput under the fault as a share of that just before and after: the median of the turns."""
        rate_H = np.array([pace.rate for pace in self.healthy])
        beside_F = (rate_H[:-1] + rate_H[1:]) / 2
        return float(np.median([pace.rate for pace in self.faulty] / beside_F))


def slow_peers(
    run: Path, images_TCHW: NDArray[np.uint8], phase_s: float, policy: str = "topk:1", turns: int = 3
) -> dict[str, Slowed]:
    """Return the pace with 2 nodes frozen, with 1 wedged, and with 1 that takes 300 ms."""
    with FaultyMesh(run) as mesh, mesh.client() as client:

        def pace() -> Pace:
            return pace_of(client, images_TCHW, phase_s, policy)

        def slowed(begin: Callable[[], None], end: Callable[[], None]) -> Slowed:
            _warm_up(client, images_TCHW, policy)
            healthy, faulty = [pace()], list[Pace]()
            for _ in range(turns):
                begin()
                faulty.append(pace())
                end()
                client.wait_for_nodes(len(mesh.folders), FOUND_S)
                _warm_up(client, images_TCHW, policy)
                healthy.append(pace())
            return Slowed(tuple(healthy), tuple(faulty))

        def restart(node: int) -> None:
            mesh.kill(node)
            mesh.start(node)

        return {
            "2 frozen": slowed(lambda: mesh.freeze(2, 5), lambda: mesh.thaw(2, 5)),
            "1 wedged": slowed(lambda: mesh.slow_down(3), lambda: restart(3)),
            "1 at 300 ms": slowed(lambda: mesh.slow_down(7, SLOW_S), lambda: restart(7)),
        }


def pace_of(client: MeshClient, images_TCHW: NDArray[np.uint8], seconds: float, policy: str) -> Pace:
    """Ask about one image after another for so long."""
    took_s: list[float] = []
    marked = 0
    begin_s = time.monotonic()
    while (now_s := time.monotonic()) < begin_s + seconds:
        answer = client.predict(images_TCHW[[len(took_s) % len(images_TCHW)]], policy=policy)
        took_s.append(time.monotonic() - now_s)
        marked += int(answer.degraded_T[0])
    rate = len(took_s) / (time.monotonic() - begin_s)
    return Pace(rate, max(took_s), float(np.median(took_s)), marked / len(took_s))


def _warm_up(client: MeshClient, images_TCHW: NDArray[np.uint8], policy: str) -> None:
    """Ask until every node is known and trusted: the client learns how long each takes."""
    end_s = time.monotonic() + 30.0
    nodes = client.manifest.nodes
    while True:
        for _ in range(3):
            answer = client.predict(images_TCHW[:1], policy="all")
        pace_of(client, images_TCHW, 0.3, policy)
        if len(trusted(client)) == nodes and not answer.degraded_T.any():
            return
        assert time.monotonic() < end_s, "a node is suspected for longer than half a minute"


@dataclass(frozen=True)
class Hurried:
    """What queries of a tiny deadline did to the mesh as the client sees it.

    Attributes:
        trusted_before, trusted_after: how many nodes can be asked.
        marked_after: degraded answers among later queries with time enough.
        later: how many these are.
    """

    trusted_before: int
    trusted_after: int
    marked_after: int
    later: int


def hurried(run: Path, images_TCHW: NDArray[np.uint8], queries: int = 200) -> Hurried:
    """Ask with a deadline of 5 ms again and again, then with time enough."""
    with FaultyMesh(run) as mesh, mesh.client() as client:
        _warm_up(client, images_TCHW, "topk:2")
        before = len(trusted(client))
        for number in range(queries):
            image = images_TCHW[[number % len(images_TCHW)]]
            client.predict(image, policy="all", deadline_s=TINY_DEADLINE_S)
        after = len(trusted(client))
        later = [client.predict(images_TCHW[[number]], policy="topk:2") for number in range(50)]
        return Hurried(before, after, sum(int(each.degraded_T[0]) for each in later), len(later))


def first_query_to_a_frozen_node_s(run: Path, images_TCHW: NDArray[np.uint8], *, others_known: bool) -> float:
    """Return what the first query to a node takes that froze before this client asked it, or anybody."""
    node = 3
    with FaultyMesh(run) as mesh, mesh.client() as client:
        likes = [0.1] * len(mesh.folders)
        likes[node] = 0.0
        for _ in range(5 if others_known else 0):
            client.predict(images_TCHW[:1], gate=prefer(*likes), policy=f"topk:{len(likes) - 1}")
        likes[node] = 1.0
        mesh.freeze(node)
        begin_s = time.monotonic()
        client.predict(images_TCHW[:1], gate=prefer(*likes), policy="topk:1")
        return time.monotonic() - begin_s
