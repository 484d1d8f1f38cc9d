"""Another process that makes a folder between the moment it is found free and the lock."""

from collections.abc import Callable
from pathlib import Path

import pytest

from airmoe import locks


def another_finishes_first(monkeypatch: pytest.MonkeyPatch, make: Callable[[], object]) -> None:
    """Let ``make`` happen right before the lock is asked for."""
    lock = locks._lock

    def late(descriptor: int, path: Path, out: Path) -> None:
        make()
        lock(descriptor, path, out)

    monkeypatch.setattr(locks, "_lock", late)
