"""One process at a time makes a folder that is not there; a lock is gone with its process, come what may."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from airmoe.errors import InvalidInputError
from airmoe.locks import LONGEST_NAME, refuse_name, sole_writer
from airmoe.newfolder import partial_of, refuse_taken

HOLDING = """
import sys
from pathlib import Path
from airmoe.locks import LONGEST_NAME, refuse_name, sole_writer
from airmoe.newfolder import partial_of, refuse_taken
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


MAKING_MANY = """
import sys
from pathlib import Path
from airmoe.locks import sole_writer
print("ready", flush=True)
sys.stdin.read()
for number in range(300):
    with sole_writer(Path(sys.argv[1], "deep", "er", sys.argv[2])):
        pass
"""


def test_processes_that_end_remove_no_folder_that_another_begins_to_use(tmp_path: Path) -> None:
    both = [
        subprocess.Popen(
            [sys.executable, "-c", MAKING_MANY, str(tmp_path / "made"), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for name in ("one", "two")
    ]
    for process in both:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    for process in both:  # both at once
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    assert [process.communicate()[1] for process in both] == [b"", b""]


def test_a_folder_above_that_another_makes_at_the_same_moment_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Path.mkdir

    def late(path: Path, *arguments: int, **options: bool) -> None:
        make(path)  # by another process
        make(path, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", late)
    with sole_writer(tmp_path / "made" / "run"):
        pass
    assert (tmp_path / "made").is_dir()


@pytest.mark.parametrize("out", [".", "/"])
@pytest.mark.parametrize("check", [refuse_name, partial_of, refuse_taken])
def test_a_folder_without_a_name_of_its_own_is_refused(check: Callable[[Path], object], out: str) -> None:
    expected = f"out is '{out}'; expected a folder that does not exist yet"
    with pytest.raises(InvalidInputError, match=f"^{re.escape(expected)}$"):
        check(Path(out))


@pytest.mark.parametrize("name", ["a" * 248, "é" * 124])
@pytest.mark.parametrize("check", [refuse_name, partial_of, refuse_taken])
def test_a_name_beside_which_there_is_no_room_is_refused(
    check: Callable[[Path], object], tmp_path: Path, name: str
) -> None:
    with pytest.raises(InvalidInputError, match="expected a folder whose name has at most 247 bytes"):
        check(tmp_path / name)


def test_the_longest_name_is_enough_for_every_name_beside_it(tmp_path: Path) -> None:
    out = tmp_path / ("a" * LONGEST_NAME)
    with sole_writer(out):
        partial_of(out).mkdir()
