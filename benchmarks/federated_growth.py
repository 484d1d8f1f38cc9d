"""How the loop engine grows with clients: seconds until the first round ends, and memory.

    python benchmarks/federated_growth.py [--clients 10 100 1000]

Each number of clients has a process of its own, which loads digits, divides them evenly, and trains a round
of FedCE and experts of one epoch as ``airmoe train`` would. Time counts from when the images are loaded.
Memory is the peak of the process less what it held then: networks, copies of images, and each client's state.
Beside it stands what the clients' experts alone hold.
"""

import argparse
import contextlib
import json
import resource
import subprocess
import sys
import time

import torch

from airmoe.data import load_images
from airmoe.networked import NetworkedConfig, split_among_clients
from airmoe.networked.node import EXPERTS, FEATURES, NodesHere
from airmoe.networked.stages import train_shared_parts

SETTINGS = {
    "features": {"rounds": 1},
    "experts": {"epochs": 1},
    "gate": {"rounds": 1},
}


class Enough(Exception):
    """What is measured is over."""


def measured(clients: int) -> dict[str, float]:
    torch.set_num_threads(1)
    images = load_images("digits")
    before_kb, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    config = NetworkedConfig.model_validate({**SETTINGS, "data": {"clients": clients, "partition": "iid"}})
    found: dict[str, float] = {}

    def heard(stage: str, done: int, total: int, note: str = "", /) -> None:
        if stage == FEATURES and done == 1:
            found["first_round_s"] = time.monotonic() - begin
        if stage == EXPERTS and done == total:
            raise Enough

    data = split_among_clients(config, images)
    nodes = NodesHere(config, data)
    with contextlib.suppress(Enough):
        train_shared_parts(config, nodes, data.held_out, progress=heard)
    found["memory_mb"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1e3
    found["experts_mb"] = sum(4 * p.numel() for each in nodes.experts for p in each.parameters()) / 1e6
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(measured(asked.one)))
        return
    print(
        "| clients | first round after, s | memory, MB | of it experts, MB |\n|---:|---:|---:|---:|",
        flush=True,
    )
    for clients in asked.clients:
        words = [sys.executable, "-P", __file__, "--one", str(clients)]
        found = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
        values = found["first_round_s"], found["memory_mb"], found["experts_mb"]
        print(f"| {clients:,} | {' | '.join(f'{value:,.1f}' for value in values)} |", flush=True)


if __name__ == "__main__":
    main()
