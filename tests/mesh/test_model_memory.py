"""Memory of a device, measured in a process of its own."""

import os
import subprocess
from pathlib import Path

import pytest

from airmoe.mesh.model_memory import measured_apart, resident_bytes, serving_memory


def test_the_peak_is_no_less_than_what_is_resident_now() -> None:
    assert resident_bytes("VmHWM") >= resident_bytes("VmRSS", str(os.getpid())) > 1e6


def test_the_process_is_a_fresh_one(run_folder: Path) -> None:
    extractor = run_folder / "shared" / "extractor.onnx"
    held = bytearray(400_000_000)  # of this process, whose memory is not that of the device
    memory = serving_memory([extractor])
    assert memory is not None
    assert held.count(0) == len(held) > memory.peak_bytes > memory.libraries_bytes


def test_a_file_that_is_no_network_fails(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"nothing")
    with pytest.raises(subprocess.CalledProcessError):
        serving_memory([tmp_path / "x.onnx"])


def test_where_there_is_no_proc_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda _: False)
    assert measured_apart("airmoe.mesh.model_memory") is None
