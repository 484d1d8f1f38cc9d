"""A run folder in the making is nobody else's, and none is begun that cannot get its name."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from airmoe import newfolder
from airmoe.data import ImageSet
from airmoe.errors import InvalidInputError
from airmoe.locks import sole_writer
from airmoe.networked.config import NetworkedConfig
from airmoe.newfolder import partial_of
from airmoe.runs.run_writing import begun_run, finish_run, run_checkpoint

KILLED = """
import os, signal, sys
from pathlib import Path
from airmoe.files import replaced_file
with replaced_file(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_that_another_process_finishes_before_the_lock_is_had_is_not_begun_again(
    tmp_path: Path, few_digits: ImageSet, monkeypatch: pytest.MonkeyPatch, resume: bool
) -> None:
    out = tmp_path / "run"
    if resume:
        partial_of(out).mkdir()

    @contextlib.contextmanager
    def after_another(out: Path) -> Iterator[None]:
        partial_of(out).mkdir(exist_ok=True)
        partial_of(out).rename(out)
        with sole_writer(out):
            yield

    monkeypatch.setattr(newfolder, "sole_writer", after_another)
    begun = begun_run(out, NetworkedConfig(), 0, few_digits, resume=resume)
    with pytest.raises(InvalidInputError, match="expected a folder that does not exist yet"), begun:
        pytest.fail("it has begun")


@pytest.mark.parametrize("out", [".", "/"])
def test_a_folder_without_a_name_of_its_own_is_refused(out: str) -> None:
    with pytest.raises(InvalidInputError, match="expected a folder that does not exist yet"):
        partial_of(Path(out))


def test_what_a_killed_process_was_writing_is_not_in_the_finished_folder(
    tmp_path: Path, few_digits: ImageSet
) -> None:
    config = NetworkedConfig()
    with begun_run(tmp_path / "run", config, 0, few_digits, resume=False) as partial:
        run_checkpoint(partial, "fingerprint").save("features", {}, [])
        subprocess.run([sys.executable, "-c", KILLED, str(partial / "metrics.jsonl")], check=False)
        assert any(path.read_bytes() == b"half" for path in partial.iterdir() if path.is_file())
        finish_run(partial, tmp_path / "run", config, 0, [], few_digits)
    written = ["config.toml", "metrics.jsonl", "run.json"]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == written
