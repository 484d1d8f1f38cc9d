"""The Python in the README does what it says."""

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def blocks() -> list[str]:
    found = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.S)
    assert len(found) == 2
    return found


def run(code: str, place: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=place, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_six_lines_of_python_train_a_good_mixture(tmp_path: Path) -> None:
    code = blocks()[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 6
    printed = re.fullmatch(
        r"macro-F1 of ten clients that know two digits each: (0\.\d{3})\n", run(code, tmp_path)
    )
    assert printed is not None
    assert float(printed[1]) >= 0.93
    assert (tmp_path / "runs/digits/clients/09/manifest.json").exists()


def test_selection_alone_chooses_sets_that_suffice(tmp_path: Path) -> None:
    experts, energy_j = map(float, run(blocks()[1], tmp_path).split())
    assert 1 < experts <= 8
    assert 1e-4 < energy_j < 8e-3
