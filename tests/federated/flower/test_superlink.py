"""Where a SuperLink can run."""

import os
import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("flwr", reason="needs airmoe[flower]")

import flwr

from airmoe.errors import InvalidInputError
from airmoe.federated.flower.superlink import _keep_running, refuse_place_with_space


def test_a_folder_with_a_space_is_refused_for_flower_would_keep_no_nodes_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(flwr, "__file__", "/opt/my tools/flwr/__init__.py")
    with pytest.raises(
        InvalidInputError, match=r"folder of Flower is '/opt/my tools/flwr'; expected one without a space"
    ):
        refuse_place_with_space()
    monkeypatch.setattr(flwr, "__file__", "/opt/tools/flwr/__init__.py")
    refuse_place_with_space()


def test_what_starts_runs_is_started_anew_if_it_dies_and_ends_with_the_superlink(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    script, starts, ends = tmp_path / "executor.py", tmp_path / "starts", threading.Event()
    script.write_text(
        "import pathlib, time\n"
        f"starts = pathlib.Path({str(starts)!r})\n"
        "before = starts.read_text() if starts.exists() else ''\n"
        "starts.write_text(before + 'x')\n"
        "if before: time.sleep(600)\n"  # the first one dies at once
    )
    keeper = threading.Thread(
        target=_keep_running, args=([sys.executable, str(script)], dict(os.environ), ends)
    )
    keeper.start()
    deadline = time.monotonic() + 120
    while not (starts.exists() and starts.read_text() == "xx"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    ends.set()
    keeper.join(60)
    assert not keeper.is_alive()
    assert "ended with status 0; started anew" in caplog.text
