"""Seconds of a round over Flower, and what its processes hold: LeNet-5 on digits, FedCE, all on this machine.

A SuperLink and nodes are processes, with TLS and the nodes' keys, as on machines of their own. The first
round is left out: nodes load PyTorch and their images in it.

    python benchmarks/flower_round.py [--nodes 5] [--rounds 12] [--secure-sums]
"""

import argparse
import itertools
import statistics
import tempfile
import time
from pathlib import Path

import psutil

from airmoe.federated.flower.lab import Lab
from airmoe.networked.flower import SETTINGS

APP = "airmoe.networked.flower"


def processes(folder: Path) -> dict[str, list[psutil.Process]]:
    """The processes of a lab by what they do."""
    kinds = {
        "superlink": " superlink ",
        "run": "flwr-serverapp",
        "node": " node ",
        "supernode": "supernode.py",
    }
    found: dict[str, list[psutil.Process]] = {kind: [] for kind in kinds}
    for process in psutil.process_iter(["cmdline"]):
        words = " ".join(process.info["cmdline"] or [])
        kind = next((kind for kind, part in kinds.items() if str(folder) in words and part in words), None)
        if kind is not None:
            found[kind].append(process)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--secure-sums", action="store_true")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder, settings = Path(place) / "lab", Path(place) / "run.toml"
        settings.write_text(
            f"[data]\nclients = {told.nodes}\n[features]\nrounds = {told.rounds}\n[experts]\nepochs = 2\n"
            f"[gate]\nrounds = 3\n[federation]\nsecure_sums = {str(told.secure_sums).lower()}\n"
        )
        with Lab(folder, told.nodes, f"{APP}:server", f"{APP}:client", None, SETTINGS) as lab:
            run = lab.begin_run({"config": str(settings), "out": str(folder / "out"), "minimum": told.nodes})
            assert run.stdout is not None
            ends_s: dict[str, list[float]] = {"features": [], "gate": []}
            memory = {}
            for line in run.stdout:
                stage = line.partition(":")[0]
                if stage in ends_s and " of " in line:
                    ends_s[stage].append(time.monotonic())
                    memory = {
                        kind: max((each.memory_info().rss for each in of_kind), default=0) / 1e6
                        for kind, of_kind in processes(folder).items()
                    }
            assert run.wait() == 0
    for stage, ends in ends_s.items():
        rounds = [after - before for before, after in itertools.pairwise(ends)]
        print(f"{stage}: {statistics.median(rounds):.1f} s a round, median of {len(rounds)}")
    print(", ".join(f"{kind} {megabytes:.0f} MB" for kind, megabytes in memory.items()))
    busy = psutil.getloadavg()[0] / (psutil.cpu_count() or 1)
    print(f"load of this machine in the last minute: {busy:.1f} processes a core")


if __name__ == "__main__":
    main()
