"""The run folder is whole, or it is not there; nor are the folders made for it."""

import subprocess
import sys
from pathlib import Path

import pytest

from airmoe.errors import InvalidInputError
from airmoe.locks import LONGEST_NAME
from airmoe.studies.demo.folder import new_run_folder


def fail_after_making(out: Path) -> None:
    with new_run_folder(out) as run:
        run.mkdir()
        raise RuntimeError


def test_what_is_made_in_the_block_becomes_the_run_folder(tmp_path: Path) -> None:
    with new_run_folder(tmp_path / "runs" / "one") as run:
        run.mkdir()
        (run / "made").touch()
        assert not (tmp_path / "runs" / "one").exists()
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == [
        *("runs", "runs/one", "runs/one/made")
    ]


def test_a_block_that_fails_leaves_nothing_not_even_the_folders_above(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        fail_after_making(tmp_path / "runs" / "one")
    assert list(tmp_path.iterdir()) == []


def test_a_block_that_fails_leaves_what_was_there_before(tmp_path: Path) -> None:
    (tmp_path / "runs" / "another").mkdir(parents=True)
    with pytest.raises(RuntimeError):
        fail_after_making(tmp_path / "runs" / "one")
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["another"]


def test_a_folder_that_is_there_is_refused_before_the_block(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    expected = "expected a folder that does not exist yet"
    with pytest.raises(InvalidInputError, match=expected), new_run_folder(tmp_path / "one"):
        pytest.fail("it is made a second time")


KILLED = """
import os, signal, sys
from pathlib import Path
from airmoe.studies.demo.folder import new_run_folder
with new_run_folder(Path(sys.argv[1])) as run:
    run.mkdir()
    (run / "half").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_gone_after_the_next(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "one")], check=False)
    assert list(tmp_path.rglob("half"))
    with new_run_folder(tmp_path / "one") as run:
        run.mkdir()
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["one"]


def test_the_longest_name_has_room(tmp_path: Path) -> None:
    with new_run_folder(tmp_path / ("a" * LONGEST_NAME)) as run:
        run.mkdir()
