"""What identities cost: mutual TLS and access control beside plain TCP on loopback, with the same nodes.

    python benchmarks/identity.py RUN_FOLDER [--rounds 20] [--queries 100]

The run is served twice, with identities and without, by a process for each node. A client asks one expert of
another node about one image, in turns over both. Ratios are of medians, round by round.
"""

import argparse
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from airmoe.mesh import MeshClient
from airmoe.mesh.fleet import NodeFleet
from airmoe.runfolder import client_folders


def spread(values: list[float]) -> str:
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run_folder", type=Path)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--queries", type=int, default=100, help="of each kind in a round")
    arguments = parser.parse_args()
    folders = client_folders(arguments.run_folder)
    with ExitStack() as open_:
        clients = dict[str, MeshClient]()
        for name, insecure in (("TCP", True), ("TLS", False)):
            fleet = open_.enter_context(NodeFleet(folders, insecure=insecure))
            print(f"{name}: {len(folders)} nodes serve after {max(fleet.start_s):.1f} s")
            identity = fleet.identities[0]
            client = MeshClient(folders[0], fleet.addresses, hedge_s=1.0, identity=identity)
            clients[name] = open_.enter_context(client)
            begin_s = time.monotonic()
            client.wait_for_nodes(len(folders), 60.0)
            print(f"{name}: all are found after {time.monotonic() - begin_s:.1f} s more")
            print(f"{name}: a node takes at most {max(fleet.memory_mb()):.0f} MB")
        asks = clients["TCP"].manifest.asks
        assert asks is not None
        image = np.zeros((1, asks.input.channels, asks.input.height, asks.input.width), np.uint8)
        score_1E = np.full((1, clients["TCP"].layer.spec.experts), 0.01, np.float32)
        score_1E[0, 1] = 0.9
        took_ms: dict[str, list[float]] = {name: [] for name in clients}
        for round_ in range(-1, arguments.rounds):
            for name in sorted(clients, reverse=bool(round_ % 2)):
                each_ms = []
                for _ in range(arguments.queries):
                    begin_s = time.perf_counter()
                    answer = clients[name].predict(image, gate=lambda payload_T, snr_db_TE: score_1E)
                    each_ms.append((time.perf_counter() - begin_s) * 1e3)
                    assert answer.dispatched.arrived_TE[0, 1]
                if round_ >= 0:
                    took_ms[name].append(float(np.median(each_ms)))
        for name, values in took_ms.items():
            print(f"{name}: p50 of a query, ms: {spread(values)}")
        ratios = [tls / tcp for tls, tcp in zip(took_ms["TLS"], took_ms["TCP"], strict=True)]
        print(f"TLS over TCP: {spread(ratios)}")


if __name__ == "__main__":
    main()
