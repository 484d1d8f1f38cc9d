"""What a node process costs: seconds from its start until it serves, and its peak memory.

    python benchmarks/node_process.py RUN_FOLDER [--starts 10]

Starts ``airmoe serve`` of the run's first client alone, again and again, and reads VmHWM. Beside it,
in turns, an interpreter that only imports NumPy, ONNX Runtime and Zenoh: what no node can go below.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

from airmoe.mesh.fleet import NodeFleet
from airmoe.runfolder import client_folders

FLOOR = """
import numpy, onnxruntime, zenoh
status = open("/proc/self/status").read()
print(int(status.partition("VmHWM:")[2].split(maxsplit=1)[0]) * 1024 / 1e6)
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run_folder", type=Path)
    parser.add_argument("--starts", type=int, default=10)
    arguments = parser.parse_args()
    folder = client_folders(arguments.run_folder)[0]
    node_s, node_mb, floor_s, floor_mb = [], [], [], []
    for _ in range(arguments.starts):
        with NodeFleet([folder]) as fleet:
            node_s.append(fleet.start_s[0])
            node_mb += fleet.memory_mb()
        begin = time.monotonic()
        done = subprocess.run([sys.executable, "-c", FLOOR], check=True, capture_output=True, text=True)
        floor_s.append(time.monotonic() - begin)
        floor_mb.append(float(done.stdout))
    ratios = [node / floor for node, floor in zip(node_s, floor_s, strict=True)]
    for name, values, digits in (
        ("node: seconds until it serves", node_s, 2),
        ("node: peak memory, MB", node_mb, 1),
        ("imports alone: seconds", floor_s, 2),
        ("imports alone: peak memory, MB", floor_mb, 1),
        ("ratio of seconds", ratios, 2),
    ):
        print(
            f"{name}: median {statistics.median(values):.{digits}f}, "
            f"{min(values):.{digits}f} to {max(values):.{digits}f}"
        )


if __name__ == "__main__":
    main()
