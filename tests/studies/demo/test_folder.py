"""The run folder is whole, or it is not there; nor are the folders made for it."""

from pathlib import Path

import pytest

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
