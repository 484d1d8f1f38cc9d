"""The six lines of Python in the README do what they say."""

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_six_lines_of_python_train_a_good_mixture(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.S)
    assert len([line for line in code.splitlines() if line.strip()]) <= 6
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    printed = re.fullmatch(r"macro-F1 of ten clients that know two digits each: (0\.\d{3})\n", done.stdout)
    assert printed is not None
    assert float(printed[1]) >= 0.93
    assert (tmp_path / "runs/digits/clients/09/manifest.json").exists()
