"""A disk that is full, wherever a run is written: one error that names the file, and nothing half-written."""

import errno
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from airmoe.files import replaced_file
from airmoe.runs.checkpoint import Checkpoint, write_metrics
from airmoe.runs.onnx_files import export_onnx
from airmoe.trouble import line_about

LARGEST_FILE = 2000


@pytest.fixture(autouse=True)
def full_disk() -> Iterator[None]:
    """No file may become larger than a few bytes: it fails where a full disk does."""
    before, limit = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, limit[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    signal.signal(signal.SIGXFSZ, before)


def save_checkpoint(path: Path) -> None:
    weights: dict[str, dict[str, Tensor]] = {"head": {"weight": torch.ones(1000)}}
    Checkpoint(path.parent, "fingerprint").save(path.stem, weights, [])


def export_network(path: Path) -> None:
    export_onnx(torch.nn.Linear(50, 50), {"input": torch.ones(3, 50)}, path)


def write_rows(path: Path) -> None:
    write_metrics([{"round": number} for number in range(1000)], path)


def write_text(path: Path) -> None:
    with replaced_file(path) as temporary:
        temporary.write_text("a" * 10_000, encoding="utf-8")


@pytest.mark.parametrize("write", [save_checkpoint, export_network, write_rows, write_text])
def test_trouble_with_a_full_disk_names_the_file(tmp_path: Path, write: Callable[[Path], None]) -> None:
    path = tmp_path / "written.safetensors"
    with pytest.raises(OSError, match="File too large") as met:
        write(path)
    assert met.value.errno == errno.EFBIG
    assert line_about(met.value) == f"{path}: File too large; expected to be able to use it"


@pytest.mark.parametrize("write", [save_checkpoint, write_rows, write_text])
def test_nothing_half_written_stays(tmp_path: Path, write: Callable[[Path], None]) -> None:
    with pytest.raises(OSError, match="File too large"):
        write(tmp_path / "written.safetensors")
    assert list(tmp_path.iterdir()) == []
