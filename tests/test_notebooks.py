"""Every notebook runs from its first cell to its last, and says what an independent calculation gives."""

import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from airmoe.scheduling import select_experts
from tests.mesh.ports import free_address

FOLDER = Path(__file__).resolve().parents[1] / "examples" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def cells(name: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    return found


def printed(name: str, place: Path, replace: dict[str, str] | None = None) -> list[str]:
    """Run the code cells one after another, as a kernel does, with figures drawn to nowhere."""
    code = "\n".join("".join(cell["source"]) for cell in cells(name) if cell["cell_type"] == "code")
    for old, new in (replace or {}).items():
        assert code.count(old) == 1, old
        code = code.replace(old, new)
    environment = {**os.environ, "MPLBACKEND": "agg", "TMPDIR": str(place)}
    ended = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", code],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


def test_there_are_two() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["choose_experts", "train_and_ask"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs_and_says_what_it_does_first(path: Path) -> None:
    first, *others = cells(path.stem)
    assert first["cell_type"] == "markdown"
    assert first["source"][0].startswith("# ")
    code = [cell for cell in others if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)


@pytest.mark.long
def test_train_and_ask_ends_with_a_three_that_another_node_recognised(tmp_path: Path) -> None:
    ports = {str(port): free_address().removeprefix("127.0.0.1:") for port in (7461, 7462, 7463)}
    f1, says, energy = printed("train_and_ask", tmp_path, ports)
    assert float(f1.removeprefix("macro-F1 over all ten digits: ")) > 0.8
    match = re.fullmatch(r"it shows a (\d) says expert ([123])", says)
    assert match is not None
    assert match[1] == "3"
    assert int(match[2]) in (2, 3), "the ring gives the digit 3 to these two"
    assert float(energy.split()[1]) > 0


def test_choose_experts_finds_the_cheapest_of_all_sets(tmp_path: Path) -> None:
    spent, reached, plan = printed("choose_experts", tmp_path)
    rng = np.random.default_rng(0)
    scores_TE = rng.dirichlet(np.full(8, 0.3), size=64)
    energy_j_TE = rng.uniform(1e-6, 5e-5, (64, 8))
    sets = [list(s) for size in (1, 2) for s in itertools.combinations(range(8), size)]
    cheapest_T = np.full(64, np.inf)
    for experts in sets:
        enough_T = scores_TE[:, experts].sum(axis=1) >= 0.5 - 1e-9
        price_T = np.where(enough_T, energy_j_TE[:, experts].sum(axis=1), np.inf)
        cheapest_T = np.minimum(cheapest_T, price_T)
    feasible_T = np.isfinite(cheapest_T)
    ours = select_experts(scores_TE, energy_j_TE, threshold=0.5, max_experts=2)
    assert ours.energy_j[feasible_T] == pytest.approx(cheapest_T[feasible_T])
    assert spent.endswith(f"{ours.energy_j.mean() * 1e6:.1f} µJ an item")
    assert reached.startswith(f"{feasible_T.mean():.0%} of the items")
    match = re.fullmatch(r"[\d.]+ µJ, at most ([\d.]+)% above the optimum", plan)
    assert match is not None
    assert float(match[1]) < 1
