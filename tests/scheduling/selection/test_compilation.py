"""Trouble with the cache of compiled code costs a compilation, and nothing else."""

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
"""
CALL = """
import resource, signal, sys
{before}
import kernel
assert kernel.twice(21) == 42
stats = kernel.twice.stats
print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "kernel.py").write_text(KERNEL, encoding="utf-8")
    return tmp_path


def called(folder: Path, before: str = "") -> str:
    """Call a kernel in a process of its own; return the hits and misses of its cache."""
    told = subprocess.run(
        [sys.executable, "-c", CALL.format(before=before)],
        cwd=folder,
        env={"NUMBA_CACHE_DIR": str(folder / "cache"), "PYTHONPATH": ":".join([str(folder), *sys.path])},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert (told.returncode, told.stderr) == (0, "")
    return told.stdout.strip()


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def scramble(file: Path) -> None:
    file.write_bytes(bytes(reversed(file.read_bytes())))


@pytest.mark.parametrize(("suffix", "harm"), [(".nbi", truncate), (".nbc", truncate), (".nbc", scramble)])
def test_a_damaged_cache_is_replaced(folder: Path, suffix: str, harm: Callable[[Path], None]) -> None:
    assert called(folder) == "0 1"
    (file,) = (folder / "cache").rglob(f"*{suffix}")
    harm(file)
    assert called(folder) == "0 1"
    assert called(folder) == "1 0"


FULL = "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))"


def test_a_full_disk_costs_a_compilation(folder: Path) -> None:
    assert called(folder, before=FULL) == "0 1"
    assert not list((folder / "cache").rglob("*.nb?"))


def test_without_a_place_for_a_cache_it_is_compiled_all_the_same() -> None:
    made: dict[str, Callable[[int], int]] = {}
    exec(KERNEL, made)  # code without a file has no place
    assert made["twice"](21) == 42
