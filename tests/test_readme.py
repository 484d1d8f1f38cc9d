"""The Python in the README does what it says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


def blocks() -> list[str]:
    found = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.S)
    assert len(found) == 2
    return found


def run(code: str, place: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=place, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


SHORT = 'seed=0, features={"rounds": 8}, experts={"epochs": 5}, gate={"rounds": 8}'
"""A tenth of the rounds: half a minute less."""


@pytest.mark.parametrize(
    ("settings", "fewest"),
    [
        pytest.param("seed=0", 0.93, id="as it stands", marks=pytest.mark.long),
        pytest.param(SHORT, 0.9, id="short"),
    ],
)
def test_the_six_lines_of_python_train_a_good_mixture(tmp_path: Path, settings: str, fewest: float) -> None:
    code = blocks()[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 6
    assert code.count("NetworkedConfig(seed=0)") == 1
    printed = re.fullmatch(
        r"macro-F1 of ten clients that know two digits each: (0\.\d{3})\n",
        run(code.replace("seed=0", settings), tmp_path),
    )
    assert printed is not None
    assert float(printed[1]) >= fewest
    assert (tmp_path / "runs/digits/clients/09/manifest.json").exists()


def test_selection_alone_chooses_sets_that_suffice(tmp_path: Path) -> None:
    experts, energy_j = map(float, run(blocks()[1], tmp_path).split())
    assert 1 < experts <= 8
    assert 1e-4 < energy_j < 8e-3
