"""A client and its nodes over many queries: memory and descriptors."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from airmoe.mesh import MeshClient
from tests.system.faults.elsewhere import elsewhere
from tests.system.faults.identities import identity_here
from tests.system.faults.mesh import FOUND_S, FaultyMesh, descriptors, resident_mb

_SAMPLE_S = 0.5
_WARM = 0.25
"""The first share of the time, in which caches fill."""


@dataclass(frozen=True)
class Soak:
    """What a client and its nodes held over time, after a first quarter.

    Attributes:
        queries: how many there were.
        client_mb, node_mb: growth of resident memory for each 10,000 queries, in MB; of the nodes, the one
            that grew most.
        descriptors: how many more the client, or a node, has open at the end.
    """

    queries: int
    client_mb: float
    node_mb: float
    descriptors: int


class Regular:
    """A client that asks about one image after the other."""

    def __init__(self, folder: Path, addresses: list[str], images_TCHW: NDArray[np.uint8]) -> None:
        self._client, self._images_TCHW = (
            MeshClient(folder, addresses, identity=identity_here(folder)),
            images_TCHW,
        )
        self._client.wait_for_nodes(len(addresses), FOUND_S)
        self._asked = 0

    def ask(self, seconds: float) -> int:
        """Ask for so long; return how many queries there have been."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            image = self._images_TCHW[[self._asked % len(self._images_TCHW)]]
            self._client.predict(image, policy="topk:2")
            self._asked += 1
        return self._asked

    def close(self) -> None:
        self._client.close()


def soak(run: Path, images_TCHW: NDArray[np.uint8], seconds: float) -> Soak:
    """Ask all nodes of a run for so long, and look at what all processes hold."""
    with FaultyMesh(run) as mesh:
        each = [(mesh.folders[0], mesh.addresses, images_TCHW)]
        with elsewhere(Regular, each) as (client,):
            pids = [client.pid, *(mesh.pid(node) for node in range(len(mesh.folders)))]
            queries_S, memory_SP, descriptors_SP = [], [], []
            for _ in range(int(seconds / _SAMPLE_S)):
                client.begin("ask", _SAMPLE_S)
                queries_S.append(client.result())
                memory_SP.append([resident_mb(pid) for pid in pids])
                descriptors_SP.append([descriptors(pid) for pid in pids])
    first = int(_WARM * len(queries_S))
    slope_P = 1e4 * np.polyfit(queries_S[first:], np.array(memory_SP[first:]), 1)[0]
    more_P = np.subtract(descriptors_SP[-1], descriptors_SP[first])
    return Soak(queries_S[-1], float(slope_P[0]), float(slope_P[1:].max()), int(more_P.max()))
