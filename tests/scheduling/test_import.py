"""A node process that imports scheduling stays small and starts fast."""

import subprocess
import sys

SCRIPT = """
import sys, time
start = time.perf_counter()
import airmoe.scheduling as scheduling
print(time.perf_counter() - start)
import numpy as np
cost = scheduling.Cost([[1.0, 1.0]])
scheduling.TopK(1).route([[1.0, 0.0]], cost, scheduling.Slot(np.array([0]), np.array([0, 1])))
print(*sorted({"torch", "numba", "scipy.optimize"} & set(sys.modules)))
"""


def run() -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.splitlines()


def test_importing_scheduling_takes_under_a_second() -> None:
    assert min(float(run()[0]) for _ in range(2)) < 1.0  # the better of two: the box may be busy


def test_scheduling_loads_no_heavy_library_until_one_is_needed() -> None:
    assert run()[1] == ""
