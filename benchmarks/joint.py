"""Joint schedules against one bare assignment of the same size, and against an integer program.

    python benchmarks/joint.py [--turns 40] [--draws 10] [--seed 0]

In one process, in turns. First table: `schedule_layer` (Rayleigh fading of 10 dB, q = .5, D = 2, scores
softmax(N(0, 1.5^2))) beside one `scipy.optimize.linear_sum_assignment` of all K (K - 1) links to M
subcarriers. Second table: the same with 10 restarts and the tight bound, beside `scipy.optimize.milp` on the
joint problem, which stops after a minute.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from scipy.optimize import linear_sum_assignment

from airmoe.links import Ofdma
from airmoe.scheduling import schedule_layer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.scheduling.joint.joint_optimum import instance, optimum_by_integer_program, price_NNM

Result = TypeVar("Result")

SIZES = ((8, 128, 512, 1.0), (8, 1024, 512, 0.25), (16, 512, 1024, 0.25), (32, 2048, 4096, 0.1))
"""K, M, T, and the share of the turns that are taken."""

GOALS = {"none": 20, "fast": 25, "tight": 150}
"""Most assignments that a schedule at K = 8, M = 128, T = 512 may cost."""

INTEGER_PROGRAMS = ((3, 16, 6), (3, 16, 100), (4, 16, 40), (5, 24, 60))


def timed(work: Callable[..., Result], *arguments: Any, **options: Any) -> tuple[float, Result]:
    begin = time.perf_counter()
    result = work(*arguments, **options)
    return time.perf_counter() - begin, result


def spread(values: list[float], digits: int = 1) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def against_assignments(turns: int, seed: int) -> None:
    print("| K | M | T | bound | ms | one assignment, ms | ratio (quartiles) | gap, % | goal |")
    print("|---:|---:|---:|---|---:|---:|---:|---:|---|")
    for nodes, subcarriers, items, share in SIZES:
        scores_TE, source_T, gain_NNM = instance(nodes, subcarriers, items, seed)
        price_LM = price_NNM(gain_NNM)[~np.eye(nodes, dtype=bool)]
        load_L = np.random.default_rng(seed).uniform(0, 2 * items / len(price_LM), len(price_LM))
        cost_LM = price_LM * load_L[:, np.newaxis]
        problem = scores_TE, source_T, gain_NNM, Ofdma(subcarriers=subcarriers)
        for bound, goal in GOALS.items():
            plan = schedule_layer(*problem, bound=bound)  # type: ignore[arg-type]
            ours_s, theirs_s = [], []
            for _ in range(max(4, round(turns * share))):
                theirs_s.append(timed(linear_sum_assignment, cost_LM)[0])
                ours_s.append(timed(schedule_layer, *problem, bound=bound)[0])
            ratios = [ours / theirs for ours, theirs in zip(ours_s, theirs_s, strict=True)]
            gap = "-" if np.isinf(plan.gap) else f"{plan.gap * 100:.4f}"
            verdict = "-"
            if (nodes, subcarriers) == (8, 128):
                verdict = f"{goal}: {'met' if statistics.median(ratios) <= goal else 'MISSED'}"
            times = f"{statistics.median(ours_s) * 1e3:.2f} | {statistics.median(theirs_s) * 1e3:.3f}"
            size = f"{nodes} | {subcarriers:,} | {items:,}"
            print(f"| {size} | {bound} | {times} | {spread(ratios)} | {gap} | {verdict} |", flush=True)


def against_integer_program(draws: int, seed: int) -> None:
    print("\n| K | M | T | ours, ms | milp, ms | ratio (quartiles) | as cheap as milp | proven by us |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|")
    for nodes, subcarriers, items in INTEGER_PROGRAMS:
        ours_s, theirs_s, equal, proven = [], [], 0, 0
        for draw in range(draws):
            scores_TE, source_T, gain_NNM = instance(nodes, subcarriers, items, seed + draw)
            # Every item can meet this threshold, as the integer program asks.
            threshold = 0.9 * float(np.sort(scores_TE, axis=1)[:, -2:].sum(axis=1).min())
            radio, options = Ofdma(subcarriers=subcarriers), {"bound": "tight", "restarts": 10}
            seconds, exact_j = timed(
                optimum_by_integer_program, scores_TE, source_T, price_NNM(gain_NNM), threshold, 2
            )
            theirs_s.append(seconds)
            seconds, plan = timed(
                schedule_layer, scores_TE, source_T, gain_NNM, radio, threshold=threshold, **options
            )
            ours_s.append(seconds)
            if plan.lower_bound_j > exact_j * (1 + 1e-5):
                raise SystemExit(f"bound {plan.lower_bound_j} J above {exact_j} J at seed {seed + draw}")
            equal += plan.energy_j <= exact_j * (1 + 1e-5)  # milp stops within its gap
            proven += plan.proven_optimal
        ratios = [theirs / ours for ours, theirs in zip(ours_s, theirs_s, strict=True)]
        times = f"{statistics.median(ours_s) * 1e3:.2f} | {statistics.median(theirs_s) * 1e3:,.0f}"
        size, share = f"{nodes} | {subcarriers} | {items}", f"{equal} of {draws} | {proven} of {draws}"
        print(f"| {size} | {times} | {spread(ratios, 0)} | {share} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=40, help="turns of the smallest size (default 40)")
    parser.add_argument("--draws", type=int, default=10, help="draws for the integer program (default 10)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    against_assignments(arguments.turns, arguments.seed)
    against_integer_program(arguments.draws, arguments.seed)


if __name__ == "__main__":
    main()
