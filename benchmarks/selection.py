"""What exact expert selection costs, beside solvers that answer the same question.

    python benchmarks/selection.py [--seed 0] [--blocks 12] [--items 40]

1. Time per token on the reference law (softmax scores, Rayleigh links at 10 dB): ``select_experts`` and
   ``scipy.optimize.milp`` in turns, in blocks; a block solves a batch of its own, and milp the first tokens
   of that batch. The batch is small enough to run on one core. milp has its arguments prepared before its
   clock starts, its default tolerances, and energies divided by their mean. Beside them, on tokens of the
   last batch, brute force in NumPy (all sets, up to 16 experts) and CP-SAT with one worker, in
   ``.venv-ortools``, which ``make bench`` sets up (the median token, of at most 5 s each).
2. Search nodes of 300,000 tokens, memory of a million, seconds until the first answer of a process.
3. The hard families of Pisinger within a budget of a million nodes, beside milp with 10 s for each instance
   and no relative gap: it then stops at an absolute gap of 1e-6 of the mean energy.

Every set of a competitor is checked against ours; the benchmark fails if two energies disagree.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp

from airmoe.scheduling import Selection, select_experts
from airmoe.scheduling.selection.select import PARALLEL_ENTRIES

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))

from tests.scheduling.instances import HARD, Family, Instances, reference  # noqa: E402

ORTOOLS = ROOT / ".venv-ortools" / "bin" / "python"
REPEATS = 5  # of ours in a block
CP_SAT_TOKENS = 40
CP_SAT_SECONDS = 5.0
HARD_BUDGET = 1_000_000
HARD_SIZES = ((16, 4), (32, 8), (64, 8))
MILP_SECONDS = 10.0
MILP_HARD_ITEMS = 2
# HiGHS stops at a relative gap of 1e-4, or an absolute one of 1e-6 where the mean energy is 1; the fractions
# that it takes for 0 or 1 add up to 1e-5 there. A sum that misses the threshold by as little is enough to it.
MILP_TOLERANCES = (1e-4, 1e-5, 2e-6)
NODES_GOAL, MEMORY_GOAL_MIB = 80, 500


class Size(NamedTuple):
    """A size of the first table: a block's batch, milp's part of it, and how much faster ours is to be."""

    experts: int
    max_experts: int
    batch: int
    milp_tokens: int
    goal: float


SIZES = (
    Size(8, 2, 24_000, 150, 8000),
    Size(16, 4, 12_000, 100, 1000),
    Size(64, 8, 3_000, 50, 1000),
    Size(256, 8, 750, 15, 1500),
)


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def first(instances: Instances, items: int) -> Instances:
    scores_TE, energy_TE, threshold_T = instances
    return scores_TE[:items], energy_TE[:items], threshold_T[:items]


def table(head: str, rows: list[list[str]]) -> None:
    columns = [column.strip() for column in head.split("|")]
    for cells in (columns, ["---"] * len(columns), *rows):
        print("| " + " | ".join(cells) + " |")
    print()


def verdict(met: bool) -> str:
    return "met" if met else "MISSED"


def spread(values: list[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:,.0f} ({low:,.0f} to {high:,.0f}; {min(values):,.0f} to {max(values):,.0f})"


def milp_problems(instances: Instances, max_experts: int) -> list[dict[str, Any]]:
    """Return the arguments of `milp` for each item."""
    experts = instances[0].shape[1]
    bounds, integers, ones_E = Bounds(0, 1), np.ones(experts, np.int64), np.ones(experts)
    return [
        {
            "c": energy_E / energy_E.mean(),
            "constraints": LinearConstraint(
                np.vstack([scores_E, ones_E]), [threshold - 1e-9, -np.inf], [np.inf, max_experts]
            ),
            "bounds": bounds,
            "integrality": integers,
        }
        for scores_E, energy_E, threshold in zip(*instances, strict=True)
    ]


def check_set(
    row: tuple[NDArray[np.float64], NDArray[np.float64], float],
    ours: Selection,
    item: int,
    chosen_E: NDArray[np.bool_],
    name: str,
    relative: float,
    absolute: float = 0.0,
    shortfall: float = 0.0,
) -> None:
    """End the benchmark if a competitor's set is no answer, or disagrees with ours beyond its tolerance."""
    scores_E, energy_E, threshold = row
    energy_j, missing = float(energy_E[chosen_E].sum()), threshold - 1e-9 - scores_E[chosen_E].sum()
    ours_j, gap_j = float(ours.energy_j[item]), float(ours.gap_j[item])
    slack_j = 1e-9 * ours_j
    if missing > max(shortfall, 1e-15):
        sys.exit(f"{name}, item {item}: the set's scores miss the threshold by {missing}")
    if missing <= 1e-15 and energy_j + slack_j < ours_j - gap_j:
        sys.exit(f"{name}, item {item}: finds {energy_j} J, ours {ours_j} J")
    if energy_j > ours_j * (1 + relative) + absolute * energy_E.mean():
        sys.exit(f"{name}, item {item}: stays at {energy_j} J, ours {ours_j} J")


def brute_force(instances: Instances, sets: list[NDArray[np.int64]]) -> Callable[[], object]:
    """Return what computes the least energy of each item over all sets, some items at a time."""
    scores_TE, energy_TE, threshold_T = instances
    at_a_time = max(1, 200_000 // sum(len(members) for members in sets))

    def least() -> NDArray[np.float64]:
        best_T = np.full(len(scores_TE), np.inf)
        for begin in range(0, len(scores_TE), at_a_time):
            part = slice(begin, begin + at_a_time)
            need_T1 = threshold_T[part, np.newaxis] - 1e-9
            for members_SD in sets:
                score_TS = scores_TE[part][:, members_SD[:, 0]]
                energy_TS = energy_TE[part][:, members_SD[:, 0]]
                for place in range(1, members_SD.shape[1]):
                    score_TS += scores_TE[part][:, members_SD[:, place]]
                    energy_TS += energy_TE[part][:, members_SD[:, place]]
                least_T = np.where(score_TS >= need_T1, energy_TS, np.inf).min(axis=1)
                best_T[part] = np.minimum(best_T[part], least_T)
        return best_T

    return least


def brute_force_us(instances: Instances, size: Size, ours: Selection) -> float:
    sets = [
        np.array(list(itertools.combinations(range(size.experts), members)))
        for members in range(1, size.max_experts + 1)
    ]
    least = brute_force(instances, sets)
    np.testing.assert_allclose(
        least(), ours.energy_j[: len(instances[0])], rtol=1e-9, err_msg="brute force disagrees"
    )
    return statistics.median(seconds(least) for _ in range(5)) / len(instances[0]) * 1e6


def cp_sat_cells(instances: Instances, size: Size, ours: Selection, ours_us: float) -> list[str]:
    """Return microseconds per token to build the model and to solve it, the ratio, and the slowest."""
    if not ORTOOLS.exists():
        return [""] * 4
    scores_TE, energy_TE, threshold_T = instances
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "instances.npz"
        np.savez(
            path, scores=scores_TE, energy=energy_TE, threshold=threshold_T, max_experts=size.max_experts
        )
        done = subprocess.run(
            [ORTOOLS, Path(__file__).with_name("cp_sat.py"), path, str(CP_SAT_SECONDS)],
            stdout=subprocess.PIPE,
            text=True,
            timeout=60 + CP_SAT_TOKENS * CP_SAT_SECONDS,
            check=True,
        )
    solutions = json.loads(done.stdout)
    for item, solution in enumerate(solutions):
        chosen_E = np.isin(np.arange(size.experts), solution["chosen"])
        row = (scores_TE[item], energy_TE[item], threshold_T[item])
        relative = 1e-8 if solution["proven"] else np.inf
        check_set(row, ours, item, chosen_E, f"CP-SAT, {size.experts} experts", relative)
    build_us = statistics.median(solution["build_s"] for solution in solutions) * 1e6
    solve_us = statistics.median(solution["solve_s"] for solution in solutions) * 1e6
    slowest = f"{max(solution['solve_s'] for solution in solutions) * 1e6:,.0f}"
    stopped = sum(not solution["proven"] for solution in solutions)
    slowest += f"; {stopped} of {len(solutions)} stopped" if stopped else ""
    return [f"{build_us:,.0f}", f"{solve_us:,.0f}", f"{solve_us / ours_us:,.0f}", slowest]


def compare(size: Size, seed: int, blocks: int) -> tuple[list[str], list[str]]:
    """Return the rows of this size in the first two tables."""
    name = f"{size.experts} / {size.max_experts}"
    rng = np.random.default_rng([seed, size.experts])
    if size.batch * size.experts >= PARALLEL_ENTRIES:
        sys.exit(f"a batch of {size.batch} tokens of {size.experts} experts would run on all cores")
    found, chosen = list[Selection](), list[NDArray[np.bool_]]()

    def ours() -> None:
        for _ in range(REPEATS):
            found.append(select_experts(*batch, size.max_experts))

    def theirs() -> None:
        chosen.extend(milp(**problem).x > 0.5 for problem in problems)

    ours_us, milp_us = [], []
    for block in range(-1, blocks):  # the first loads and compiles, and does not count
        batch = reference(rng, size.batch, size.experts, size.max_experts)
        tokens = first(batch, size.milp_tokens)
        problems = milp_problems(tokens, size.max_experts)
        found.clear()
        chosen.clear()
        timed = {work: seconds(work) for work in ((theirs, ours) if block % 2 else (ours, theirs))}
        for item, row in enumerate(zip(*tokens, strict=True)):
            check_set(row, found[0], item, chosen[item], f"milp at {name}", *MILP_TOLERANCES)
        if block >= 0:
            ours_us.append(timed[ours] / REPEATS / size.batch * 1e6)
            milp_us.append(timed[theirs] / size.milp_tokens * 1e6)

    one_core_us = statistics.median(ours_us)
    ratios = [theirs / ours for theirs, ours in zip(milp_us, ours_us, strict=True)]
    many = reference(rng, 10 * size.batch, size.experts, size.max_experts)
    together_s = statistics.median(
        seconds(lambda: select_experts(*many, size.max_experts)) for _ in range(REPEATS)
    )
    beside = [name, f"{one_core_us:.3f}", "", ""]
    if size.experts <= 16:
        brute_us = brute_force_us(tokens, size, found[0])
        beside[2:] = f"{brute_us:,.1f}", f"{brute_us / one_core_us:,.0f}"
    beside += cp_sat_cells(first(batch, CP_SAT_TOKENS), size, found[0], one_core_us)
    return [
        name,
        f"{one_core_us:.3f}",
        f"{together_s / len(many[0]) * 1e6:.3f}",
        f"{statistics.median(milp_us):,.0f}",
        spread(ratios),
        f"{size.goal:,.0f}: {verdict(statistics.median(ratios) >= size.goal)}",
    ], beside


def nodes_row(seed: int) -> list[str]:
    rng = np.random.default_rng([seed, 1])
    nodes = [select_experts(*reference(rng, 30_000, 64, 8), 8).search_nodes for _ in range(10)]
    median, high, most = np.quantile(np.concatenate(nodes), [0.5, 0.999, 1.0])
    figures = f"median {median:.0f}, 99.9 % within {high:.0f}, at most {most:.0f}"
    goal = f"at most / median {most / median:.0f}, goal {NODES_GOAL}: {verdict(most / median <= NODES_GOAL)}"
    return ["search nodes of 300,000 tokens at 64 / 8", figures, goal]


MEMORY = """
import sys
import numpy as np
sys.path.append(sys.argv[1])
from airmoe.scheduling import select_experts
from tests.scheduling.instances import reference

def peak_mib():  # of this program alone: ru_maxrss would count the one that started it
    status = open("/proc/self/status").read()
    return int(status.partition("VmHWM:")[2].split(maxsplit=1)[0]) / 1024

rng = np.random.default_rng(int(sys.argv[2]))
select_experts(*reference(rng, 1000, 8, 2), 2)
before = peak_mib()
scores, energy, threshold = np.empty((10**6, 8)), np.empty((10**6, 8)), np.empty(10**6)
for begin in range(0, 10**6, 10_000):
    part = slice(begin, begin + 10_000)
    scores[part], energy[part], threshold[part] = reference(rng, 10_000, 8, 2)
given = peak_mib()
select_experts(scores, energy, threshold, 2)
print(before, given, peak_mib())
"""

START = """
import sys
import time
begin = time.perf_counter()
import airmoe.scheduling
airmoe.scheduling.select_experts([[0.4, 0.3, 0.2, 0.1]], [1.0, 2.0, 3.0, 4.0], 0.5, 3)
print(time.perf_counter() - begin)
"""


def run_fresh(script: str, *arguments: object) -> list[float]:
    """Run a script in an interpreter of its own and return the numbers that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
        check=True,
    )
    return [float(word) for word in done.stdout.split()]


def memory_row(seed: int) -> list[str]:
    name = "peak memory of a process with 1,000,000 tokens at 8 / 2"
    if not Path("/proc/self/status").exists():
        return [name, "not measured: needs /proc", ""]
    before, given, peak = run_fresh(MEMORY, ROOT, seed)
    figures = f"{peak:.0f} MiB: {before:.0f} before, {given - before:.0f} inputs, {peak - given:.0f} the call"
    return [name, figures, f"{MEMORY_GOAL_MIB} MiB: {verdict(peak < MEMORY_GOAL_MIB)}"]


def start_row() -> list[str]:
    run_fresh(START)  # compiles where nothing is cached
    starts = [run_fresh(START)[0] for _ in range(5)]
    figures = f"median {statistics.median(starts):.2f} s, {min(starts):.2f} to {max(starts):.2f}"
    return ["import and first selection, compiled before", figures, ""]


def hard_row(family: Family, experts: int, max_experts: int, seed: int, items: int) -> list[str]:
    rng = np.random.default_rng([seed, experts, HARD.index(family)])
    instances = family(rng, items, experts, max_experts)
    took_ms, nodes, gaps = [], [], []
    milp_ms, stopped, short = [], 0, 0
    select_experts(*first(instances, 1), max_experts, node_budget=HARD_BUDGET)
    for item, row in enumerate(zip(*instances, strict=True)):
        one = tuple(array[item : item + 1] for array in instances)
        begin = time.perf_counter()
        found = select_experts(*one, max_experts, node_budget=HARD_BUDGET)
        took_ms.append((time.perf_counter() - begin) * 1e3)
        nodes.append(int(found.search_nodes[0]))
        gaps.append(float(found.gap_j[0] / found.energy_j[0]))
        if item < MILP_HARD_ITEMS:
            (problem,) = milp_problems(one, max_experts)
            begin = time.perf_counter()
            solution = milp(**problem, options={"time_limit": MILP_SECONDS, "mip_rel_gap": 0.0})
            milp_ms.append((time.perf_counter() - begin) * 1e3)
            stopped += solution.status == 1
            if solution.x is not None:
                chosen_E = solution.x > 0.5
                relative = np.inf if solution.status == 1 else 1e-9
                name = f"milp, {family.__name__} at {experts} / {max_experts}"
                check_set(row, found, 0, chosen_E, name, relative, *MILP_TOLERANCES[1:])
                short += row[0][chosen_E].sum() < row[2] - 1e-9 - 1e-15
    theirs = ", ".join(f"{ms:,.0f}" for ms in milp_ms)
    theirs += f"; {stopped} stopped" if stopped else ""
    theirs += f"; {short} insufficient" if short else ""
    return [
        family.__name__.replace("_", " "),
        f"{experts} / {max_experts}",
        f"{statistics.median(nodes):,.0f}",
        f"{max(nodes):,}",
        f"{statistics.median(took_ms):.3f}",
        f"{max(took_ms):.2f}",
        f"{gaps.count(0.0) / items:.0%}",
        f"{max(gaps):.1e}" if any(gaps) else "0",
        theirs,
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0, help="of all instances (default 0)")
    parser.add_argument("--blocks", type=int, default=12, help="to time in turns, at least 10 (default 12)")
    parser.add_argument("--items", type=int, default=40, help="of each hard family and size (default 40)")
    options = parser.parse_args()
    if options.blocks < 10:
        parser.error(f"--blocks is {options.blocks}; expected at least 10")
    if options.items < MILP_HARD_ITEMS:
        parser.error(f"--items is {options.items}; expected at least {MILP_HARD_ITEMS}")

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"seed {options.seed}, {options.blocks} blocks, {cores} cores; experts / most experts of a token\n")
    rows = [compare(size, options.seed, options.blocks) for size in SIZES]
    print("Microseconds per token; ratios are of one core, as median (quartiles; range) of the blocks:\n")
    table(
        f"size | ours, one core | ours, {cores} cores | milp | milp / ours | goal", [row for row, _ in rows]
    )
    if not ORTOOLS.exists():
        print(f"CP-SAT is not set up ({ORTOOLS.relative_to(ROOT)}): `make bench` does it.\n")
    head = "size | ours, one core | brute force | brute force / ours"
    table(
        f"{head} | CP-SAT, build | CP-SAT, solve | solve / ours | CP-SAT, slowest", [row for _, row in rows]
    )
    table("what | measured | goal", [nodes_row(options.seed), memory_row(options.seed), start_row()])
    print(f"Hard families, {options.items} instances each, one by one, {HARD_BUDGET:,} nodes at most:\n")
    head = (
        "family | size | nodes, median | nodes, most | ms, median | ms, most | proven | largest gap / energy"
    )
    hard = [hard_row(family, *size, options.seed, options.items) for size in HARD_SIZES for family in HARD]
    table(f"{head} | milp, ms of the first {MILP_HARD_ITEMS}, {MILP_SECONDS:.0f} s at most", hard)


if __name__ == "__main__":
    main()
