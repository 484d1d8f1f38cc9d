"""One process at a time makes a folder; the lock is gone with its process, whatever became of that."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from airmoe.errors import InvalidInputError
from airmoe.locks import sole_writer

HOLDING = """
import sys
from pathlib import Path
from airmoe.locks import sole_writer
with sole_writer(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_one_is_refused_at_once_and_a_killed_one_is_in_nobodys_way(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "run"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        expected = "expected a folder that no other process is making now"
        with pytest.raises(InvalidInputError, match=expected), sole_writer(out):
            pass
        holder.kill()
    with sole_writer(out):
        pass


def test_a_place_that_cannot_be_written_is_told_by_the_name_that_was_given(tmp_path: Path) -> None:
    (tmp_path / ".run.lock").mkdir()
    with pytest.raises(OSError, match="Is a directory") as met, sole_writer(tmp_path / "run"):
        pass
    assert met.value.filename == str(tmp_path / "run")


def test_another_folder_is_free(tmp_path: Path) -> None:
    with sole_writer(tmp_path / "one"), sole_writer(tmp_path / "two"):
        pass


def test_within_one_process_a_second_one_is_refused_too(tmp_path: Path) -> None:
    with sole_writer(tmp_path / "run"), pytest.raises(InvalidInputError), sole_writer(tmp_path / "run"):
        pass


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_left_of_it(tmp_path: Path, fails: bool) -> None:
    try:
        with sole_writer(tmp_path / "made" / "too" / "run"):
            assert not fails
    except AssertionError:
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_was_made_in_the_meantime_stays(tmp_path: Path) -> None:
    with sole_writer(tmp_path / "made" / "run"):
        (tmp_path / "made" / "run").mkdir()
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["run"]


@pytest.mark.parametrize("out", [".", "/"])
def test_a_folder_without_a_name_of_its_own_is_refused(out: str) -> None:
    expected = f"out is '{out}'; expected a folder that does not exist yet"
    with pytest.raises(InvalidInputError, match=f"^{re.escape(expected)}$"), sole_writer(Path(out)):
        pass
