"""Expert selection with CP-SAT, for ``benchmarks/selection.py``: runs in an environment of its own.

    .venv-ortools/bin/python benchmarks/cp_sat.py INSTANCES.npz SECONDS

Reads ``scores`` (T, E), ``energy`` (T, E), ``threshold`` (T,) and ``max_experts``, solves one item after the
other with one worker and so many seconds at most, and prints JSON: for each item the experts chosen, whether
they are proven to be the cheapest, the seconds that its model took to build and those that the solver took.
CP-SAT wants integers: scores are counted in 1e-9, rounded so that a set that suffices there suffices, and
energies in 1e-9 of their mean.
"""

import json
import sys
import time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from ortools.sat.python import cp_model

SCALE = 1e9


class Solution(NamedTuple):
    chosen: list[int]
    proven: bool
    build_s: float
    solve_s: float


def solve(
    scores_E: NDArray[np.float64], energy_E: NDArray[np.float64], threshold: float, most: int, limit_s: float
) -> Solution:
    begin = time.perf_counter()
    score = np.floor(scores_E * SCALE).astype(np.int64).tolist()
    energy = np.rint(energy_E / energy_E.mean() * SCALE).astype(np.int64).tolist()
    model = cp_model.CpModel()
    taken = [model.new_bool_var("") for _ in score]
    model.add(cp_model.LinearExpr.weighted_sum(taken, score) >= int(np.ceil((threshold - 1e-9) * SCALE)))
    model.add(cp_model.LinearExpr.sum(taken) <= most)
    model.minimize(cp_model.LinearExpr.weighted_sum(taken, energy))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.max_time_in_seconds = limit_s
    built = time.perf_counter()
    status = solver.solve(model)
    solved = time.perf_counter()
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        sys.exit(f"CP-SAT ended with {solver.status_name(status)}")
    chosen = [expert for expert, variable in enumerate(taken) if solver.boolean_value(variable)]
    return Solution(chosen, status == cp_model.OPTIMAL, built - begin, solved - built)


def main() -> None:
    instances = np.load(sys.argv[1], allow_pickle=False)
    rows = list(zip(instances["scores"], instances["energy"], instances["threshold"].tolist(), strict=True))
    most, limit_s = int(instances["max_experts"]), float(sys.argv[2])
    solve(*rows[0], most, limit_s)  # loads what the first solve loads
    print(json.dumps([solve(*row, most, limit_s)._asdict() for row in rows]))


if __name__ == "__main__":
    main()
