"""A compilation is told; trouble with the cache of compiled code costs a compilation, and nothing else."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

KERNEL = """
from airmoe.scheduling.selection.compilation import compiled

@compiled
def twice(number):
    return 2 * number

@compiled
def thrice(number):
    return 3 * number
"""
CALL = """
import resource, signal, sys
{before}
import kernel
assert kernel.twice(21) == 42
assert kernel.thrice(21) == 63
stats = kernel.twice.stats
print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "kernel.py").write_text(KERNEL, encoding="utf-8")
    return tmp_path


TOLD = "compiling the expert search, which takes some seconds; later processes load it from a cache\n"
UNCACHED = TOLD.replace(
    "later processes load it from a cache", "no folder for a cache can be written, so every process does"
)


def called(folder: Path, before: str = "") -> str:
    """Call two kernels in a process of its own; return the hits and misses of the first one's cache."""
    told = run(folder, before)
    assert told.returncode == 0
    assert told.stderr in ("", TOLD)
    return told.stdout.strip()


def run(folder: Path, before: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CALL.format(before=before)],
        cwd=folder,
        env={"NUMBA_CACHE_DIR": str(folder / "cache"), "PYTHONPATH": ":".join([str(folder), *sys.path])},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def scramble(file: Path) -> None:
    file.write_bytes(bytes(reversed(file.read_bytes())))


@pytest.mark.parametrize(
    ("suffix", "harm"),
    [
        pytest.param(".nbi", truncate, marks=pytest.mark.long),
        pytest.param(".nbc", truncate, marks=pytest.mark.long),
        (".nbc", scramble),
    ],
)
def test_a_damaged_cache_is_replaced(folder: Path, suffix: str, harm: Callable[[Path], None]) -> None:
    assert called(folder) == "0 1"
    (file,) = (folder / "cache").rglob(f"*twice*{suffix}")
    harm(file)
    assert called(folder) == "0 1"
    assert called(folder) == "1 0"


FULL = "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))"


def test_a_full_disk_costs_a_compilation(folder: Path) -> None:
    assert called(folder, before=FULL) == "0 1"
    assert not list((folder / "cache").rglob("*.nb?"))


def test_without_a_place_for_a_cache_it_is_compiled_all_the_same(folder: Path) -> None:
    code_without_a_file = (
        f"sys.modules['kernel'] = kernel = type(sys)('kernel'); exec({KERNEL!r}, vars(kernel))"
    )
    told = run(folder, before=code_without_a_file)
    assert (told.returncode, told.stderr) == (0, UNCACHED)


def test_compilations_are_told_in_one_line_and_what_is_in_the_cache_is_not(folder: Path) -> None:
    assert run(folder).stderr == TOLD
    assert run(folder).stderr == ""
