"""The demonstration over several seeds: mean and spread of its figures.

    python benchmarks/demo_seeds.py --seeds 0 1 2
    python benchmarks/demo_seeds.py --seeds 0 1 2 --analog
    python benchmarks/demo_seeds.py --seeds 0 --data cifar10 --data-dir DIR

Each seed is one ``airmoe demo``, about two minutes on two cores for digits.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from airmoe.report import equal_f1_text

Columns = dict[str, tuple[str, float, int]]
"""Title to key, scale and digits."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--data", default="digits")
    parser.add_argument("--data-dir")
    parser.add_argument("--analog", action="store_true", help="compare gates over analog links, too")
    arguments = parser.parse_args()
    runs = []
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "run"
            command = [sys.executable, "-m", "airmoe.cli", "demo", "--data", arguments.data]
            command += ["--seed", str(seed), "--out", str(out)]
            if arguments.data_dir:
                command += ["--data-dir", arguments.data_dir]
            if arguments.analog:
                command.append("--analog")
            print(f"seed {seed} ...", flush=True)
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            runs.append(json.loads((out / "results.json").read_text(encoding="utf-8")))
    print_methods(runs)
    print("\nin simulation, seed by seed:")
    for run in runs:
        print(f"  {equal_f1_text(run)}")
    print_kills(runs)
    if arguments.analog:
        print_analog([run["analog"] for run in runs])


def print_methods(runs: list[dict[str, Any]]) -> None:
    columns: Columns = {
        "macro-F1": ("macro_f1", 1.0, 3),
        "local pairs, %": ("local_share", 100.0, 1),
        "of own classes, %": ("local_share_own_classes", 100.0, 1),
        "bytes": ("bytes_per_query", 1.0, 0),
        "µJ": ("joules_per_query", 1e6, 1),
        "p50 ms": ("latency_p50_ms", 1.0, 2),
        "p99 ms": ("latency_p99_ms", 1.0, 2),
    }
    print_table(columns, [run["methods"] for run in runs])


def print_analog(runs: list[dict[str, Any]]) -> None:
    columns: Columns = {
        "macro-F1": ("macro_f1", 1.0, 3),
        "local pairs, %": ("local_share", 100.0, 1),
        "of own classes, %": ("local_share_own_classes", 100.0, 1),
        "dB": ("mean_snr_db", 1.0, 1),
        "µJ": ("joules_per_query", 1e6, 2),
        "simulated F1": ("macro_f1_simulated", 1.0, 3),
    }
    print(f"\nover analog links, {runs[0]['mean_snr_db']:g} dB on average:")
    print_table(columns, [run["methods"] for run in runs])
    print("\nin simulation, macro-F1 and local pairs by mean SNR, dB:")
    means = [f"{point['mean_snr_db']:g}" for point in next(iter(runs[0]["sweep"].values()))]
    print("| gate | " + " | ".join(means) + " |")
    print("|---|" + "---:|" * len(means))
    for key, scale, digits in (("macro_f1", 1.0, 3), ("local_share", 100.0, 1)):
        for name in runs[0]["sweep"]:
            points = zip(*(run["sweep"][name] for run in runs), strict=True)
            cells = [spread([point[key] * scale for point in same], digits) for same in points]
            print(f"| {name} | " + " | ".join(cells) + " |")
    for number, mean in enumerate(means):
        f1 = [[curve[number]["macro_f1"] for curve in run["sweep"].values()] for run in runs]
        gains = ", ".join(f"{aware - naive:+.3f}" for aware, naive in f1)
        print(f"gain at {mean} dB, seed by seed: {gains}")
    print("largest difference mesh - simulation:", max(run["mesh_minus_simulation"] for run in runs))


def print_table(columns: Columns, runs: list[list[dict[str, Any]]]) -> None:
    print("| method | " + " | ".join(columns) + " |")
    print("|---|" + "---:|" * len(columns))
    for methods in zip(*runs, strict=True):
        cells = [
            "-" if methods[0][key] is None else spread([method[key] * scale for method in methods], digits)
            for key, scale, digits in columns.values()
        ]
        print(f"| {methods[0]['name']} | " + " | ".join(cells) + " |")


def print_kills(runs: list[dict[str, Any]]) -> None:
    kills = [run["kills"] for run in runs]
    print("\ntwo nodes killed, seed by seed:")
    for kill in kills:
        print(
            f"  nodes {kill['victims']}: F1 {kill['f1_before']:.3f} -> {kill['f1_after']:.3f}, "
            f"{kill['failed_queries']} of {kill['queries']} failed, {kill['rerouted']} routed again, "
            f"{kill['degraded']} degraded"
        )
    print("seconds:", spread([sum(run["seconds"].values()) for run in runs], 0))
    print("GB over all processes:", spread([run["memory_mb"] / 1000 for run in runs], 2))
    print("MB of the largest node:", spread([max(run["nodes"]["memory_mb"][1:]) for run in runs], 0))
    print("MB of the node that schedules:", spread([run["nodes"]["memory_mb"][0] for run in runs], 0))
    print("largest difference mesh - simulation:", max(run["mesh_minus_simulation"] for run in runs))


def spread(values: list[float], digits: int) -> str:
    mean = f"{statistics.mean(values):,.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


if __name__ == "__main__":
    main()
