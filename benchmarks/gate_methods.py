"""The gate of stage 3 by FedGate and in closed form, on the same features and experts of ten clients.

    python benchmarks/gate_methods.py [--seeds 0 1 2]

Digits, with the settings of the demonstration but for stage 3. Prints, for each partition, macro-F1 on
held-out images under top-1 routing and the megabytes that a client exchanges in stage 3, mean and standard
deviation over the seeds.
"""

import argparse

import numpy as np
import torch

from airmoe.data import load_images
from airmoe.networked import parse_config, split_among_clients, train_stages

PARTITIONS = ("ring", "iid", "dirichlet:0.5", "dirichlet:0.1")
METHODS = ("fedgate", "closed-form")
CLIENTS = 10


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    seeds = parser.parse_args().seeds
    torch.set_num_threads(1)
    images = load_images("digits")
    print("| partition | method | rounds | macro-F1 | MB per client |\n|---|---|---:|---:|---:|")
    for partition in PARTITIONS:
        for method in METHODS:
            f1, megabytes, rounds = [], [], 0
            for seed in seeds:
                settings = f'seed = {seed}\n[data]\npartition = "{partition}"\n[gate]\nmethod = "{method}"\n'
                config = parse_config(settings, "settings")
                rows = train_stages(config, split_among_clients(config, images)).rows
                of_gate = [row for row in rows if str(row["stage"]).startswith("gate")]
                f1.append(float(of_gate[-1]["macro_f1"]))
                megabytes.append(sum(float(row["bytes"]) for row in of_gate) / CLIENTS / 1e6)
                rounds = sum(row["stage"] == "gate" for row in of_gate)
            told = f"{np.mean(f1):.3f} ± {np.std(f1, ddof=len(f1) > 1):.3f} | {np.mean(megabytes):.2f}"
            print(f"| `{partition}` | `{method}` | {rounds} | {told} |", flush=True)


if __name__ == "__main__":
    main()
