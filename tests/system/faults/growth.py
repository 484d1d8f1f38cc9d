"""How a query's time grows with the nodes of a mesh, and its throughput with the clients that ask."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from airmoe.manifest import RadioSpec
from airmoe.mesh import MeshClient
from tests.system.faults.elsewhere import elsewhere, together
from tests.system.faults.identities import identity_here
from tests.system.faults.mesh import FOUND_S, FaultyMesh


@dataclass(frozen=True)
class AtSize:
    """Queries about one image to random other nodes of a mesh.

    Attributes:
        nodes: of the mesh.
        p50_ms: by the number of experts that are asked.
    """

    nodes: int
    p50_ms: dict[int, float]


def run_of(nodes: int, folder: Path) -> Path:
    """Write a run of small untrained networks, an expert at each node."""
    from tests.mesh.exported import export_maps, map_model

    model = map_model(placement=[[node] for node in range(nodes)])
    radio = RadioSpec(subcarriers=nodes * (nodes - 1), subcarrier_hz=1e6, power_w=1e-2, seed=3)
    run = folder / f"nodes-{nodes}"
    export_maps(run, model, server=False, holds=[[node % 4] for node in range(nodes)], radio=radio)
    return run


def at_size(run: Path, queries: int) -> AtSize:
    """Ask one, and two, of the other nodes of a run."""
    with FaultyMesh(run) as mesh, mesh.client(hedge_s=1.0) as client:
        asks, nodes = client.manifest.asks, client.manifest.nodes
        assert asks is not None
        image_1CHW = np.zeros((1, asks.input.channels, asks.input.height, asks.input.width), np.float32)
        random, p50_ms = np.random.default_rng(0), {}
        for experts in (1, 2) if nodes > 2 else (1,):
            took_s = []
            for _ in range(queries):
                chosen = random.choice(np.arange(1, nodes), experts, replace=False)

                def likes(
                    payload_T: NDArray[np.float32],
                    snr_db_TE: NDArray[np.float64] | None,
                    chosen: NDArray[np.int64] = chosen,
                ) -> NDArray[np.float32]:
                    scores_TE = client.gate(payload_T, snr_db_TE)
                    scores_TE[:, chosen] += 10
                    return scores_TE

                answer = client.predict(image_1CHW, gate=likes, policy=f"topk:{experts}")
                took_s.append(answer.elapsed_s)
            p50_ms[experts] = float(np.median(took_s)) * 1e3
    return AtSize(nodes, p50_ms)


class Busy:
    """A client that asks about one image as fast as it can."""

    def __init__(self, folder: Path, addresses: Sequence[str], images_TCHW: NDArray[np.uint8]) -> None:
        self._client, self._images_TCHW = (
            MeshClient(folder, addresses, identity=identity_here(folder)),
            images_TCHW,
        )
        self._client.wait_for_nodes(len(addresses), FOUND_S)

    def rate(self, seconds: float, policy: str) -> float:
        """Return queries a second."""
        begin_s, asked = time.monotonic(), 0
        while time.monotonic() < begin_s + seconds:
            self._client.predict(self._images_TCHW[[asked % len(self._images_TCHW)]], policy=policy)
            asked += 1
        return asked / (time.monotonic() - begin_s)

    def close(self) -> None:
        self._client.close()


def rates(
    run: Path, images_TCHW: NDArray[np.uint8], phase_s: float, clients: Sequence[int] = (1, 2, 4, 8)
) -> dict[int, float]:
    """Return queries a second of all clients together, by how many there are: processes of their own."""
    with FaultyMesh(run) as mesh:
        each = [(folder, mesh.addresses, images_TCHW) for folder in mesh.folders[: max(clients)]]
        with elsewhere(Busy, each) as busy:
            together(busy, "rate", 0.5, "all")
            return {count: sum(together(busy[:count], "rate", phase_s, "topk:2")) for count in clients}
