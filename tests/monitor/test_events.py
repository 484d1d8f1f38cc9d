"""Metrics rows can be read by TensorBoard as they were written."""

import math
import os
import platform
import sys
from pathlib import Path

import pytest

from airmoe.errors import MissingExtraError
from airmoe.monitor import write_events
from tests.monitor.scalars import scalars


def test_every_number_of_a_row_is_a_scalar_of_its_stage_and_round(tmp_path: Path) -> None:
    write_events(tmp_path / "tensorboard", [{"stage": "features", "round": 1, "loss": 0.5, "bytes": 1600}])
    row: dict[str, str | int | float] = {"stage": "features", "round": 2, "macro_f1": math.pi, "missing": "3"}
    write_events(tmp_path / "tensorboard", [row, {"stage": "gate", "round": 1, "energy_j": 2e-5}])
    assert scalars(tmp_path / "tensorboard") == {
        "features/loss": [(1, 0.5)],
        "features/bytes": [(1, 1600)],
        "features/macro_f1": [(2, pytest.approx(math.pi))],
        "gate/energy_j": [(1, pytest.approx(2e-5))],
    }


def test_events_name_neither_the_machine_nor_the_process(tmp_path: Path) -> None:
    write_events(tmp_path, [{"stage": "features", "round": 1, "loss": 0.5}])
    (path,) = tmp_path.iterdir()
    told = path.name.encode() + path.read_bytes()
    assert platform.node().encode() not in told
    assert str(os.getpid()) not in path.name


def test_a_missing_tensorboard_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"tensorboard; install with: pip install .*\[study\]"):
        write_events(tmp_path, [])
