"""The demonstration over several seeds: mean and spread of its figures.

    python benchmarks/demo_seeds.py --seeds 0 1 2
    python benchmarks/demo_seeds.py --seeds 0 1 2 --analog
    python benchmarks/demo_seeds.py --seeds 0 --data cifar10 --data-dir DIR

Each seed is one ``airmoe demo``, about two minutes on two cores for digits.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from airmoe.report import DemoResults, equal_f1_text, read_results
from airmoe.report.measured import AnalogMethodResult, AnalogResults, Figures, MethodResult


class Measured(Protocol):
    @property
    def figures(self) -> Figures: ...


Method = TypeVar("Method", bound=Measured)
Row = TypeVar("Row", MethodResult, AnalogMethodResult)
Columns = Mapping[str, tuple[Callable[[Method], float | None], int]]
"""Title to what is shown of a method, and its digits."""

SWEPT: Columns[Measured] = {
    "macro-F1": (lambda method: method.figures.macro_f1, 3),
    "local pairs, %": (lambda method: 100 * method.figures.local_share, 1),
}
ANSWERS: Columns[Measured] = {
    **SWEPT,
    "of own classes, %": (lambda method: 100 * method.figures.local_share_own_classes, 1),
}
METHODS: Columns[MethodResult] = {
    **ANSWERS,
    "bytes": (lambda method: method.figures.bytes_per_query, 0),
    "µJ": (lambda method: 1e6 * method.figures.joules_per_query, 1),
    "p50 ms": (lambda method: method.figures.latency_p50_ms, 2),
    "p99 ms": (lambda method: method.figures.latency_p99_ms, 2),
}
ANALOG_METHODS: Columns[AnalogMethodResult] = {
    **ANSWERS,
    "dB": (lambda method: method.mean_snr_db, 1),
    "µJ": (lambda method: 1e6 * method.figures.joules_per_query if method.links == "analog" else None, 2),
    "simulated macro-F1": (lambda method: method.macro_f1_simulated, 3),
}


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
            runs.append(read_results(out))
    print_table(METHODS, [run.methods for run in runs])
    print("\nin simulation, seed by seed:")
    for run in runs:
        print(f"  {equal_f1_text(run)}")
    print_kills(runs)
    if arguments.analog:
        print_analog([run.analog for run in runs if run.analog is not None])


def print_analog(runs: Sequence[AnalogResults]) -> None:
    print(f"\nover analog links, {runs[0].mean_snr_db:g} dB on average:")
    print_table(ANALOG_METHODS, [run.methods for run in runs])
    print("\nin simulation, macro-F1 and local pairs by mean SNR, dB:")
    means = [f"{point.mean_snr_db:g}" for point in runs[0].sweeps[0].points]
    print("| gate | " + " | ".join(means) + " |")
    print("|---|" + "---:|" * len(means))
    for value, digits in SWEPT.values():
        for sweeps in zip(*(run.sweeps for run in runs), strict=True):
            points = zip(*(sweep.points for sweep in sweeps), strict=True)
            cells = [spread([value(point) for point in same], digits) for same in points]
            print(f"| {runs[0].method(sweeps[0].method).label} | " + " | ".join(cells) + " |")
    for number, mean in enumerate(means):
        f1 = [[sweep.points[number].figures.macro_f1 for sweep in run.sweeps] for run in runs]
        gains = ", ".join(f"{aware - naive:+.3f}" for aware, naive in f1)
        print(f"gain at {mean} dB, seed by seed: {gains}")
    print("largest difference mesh - simulation:", max(run.mesh_minus_simulation for run in runs))


def print_table(columns: Columns[Row], runs: Sequence[Sequence[Row]]) -> None:
    print("| method | " + " | ".join(columns) + " |")
    print("|---|" + "---:|" * len(columns))
    for methods in zip(*runs, strict=True):
        cells = [spread([value(method) for method in methods], digits) for value, digits in columns.values()]
        print(f"| {methods[0].label} | " + " | ".join(cells) + " |")


def print_kills(runs: Sequence[DemoResults]) -> None:
    print("\ntwo nodes killed, seed by seed:")
    for kills in (run.kills for run in runs):
        print(
            f"  nodes {list(kills.victims)}: macro-F1 {kills.f1_before:.3f} -> {kills.f1_after:.3f}, "
            f"{kills.failed_queries} of {kills.queries} failed, {kills.rerouted_queries} routed again, "
            f"{kills.degraded_queries} degraded"
        )
    print("seconds:", spread([sum(step.seconds for step in run.steps) for run in runs], 0))
    print("GB over all processes:", spread([run.memory_mb / 1000 for run in runs], 2))
    print("MB of the largest node:", spread([max(run.nodes.memory_mb[1:]) for run in runs], 0))
    print("MB of the node that schedules:", spread([run.nodes.memory_mb[0] for run in runs], 0))
    print("largest difference mesh - simulation:", max(run.mesh_minus_simulation for run in runs))


def spread(values: Sequence[float | None], digits: int) -> str:
    measured = [value for value in values if value is not None]
    if len(measured) < len(values):
        return "-"
    mean = f"{statistics.mean(measured):,.{digits}f}"
    return mean if len(measured) == 1 else f"{mean} ± {statistics.stdev(measured):.{digits}f}"


if __name__ == "__main__":
    main()
