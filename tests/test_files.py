"""Files are whole or absent."""

import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from airmoe.files import (
    portable,
    read_regular,
    remove_temporary_files,
    replaced_file,
    with_short_home,
    write_secret,
    write_whole,
)
from tests.killed import killed_while_writing


class Failure(Exception):
    pass


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    with replaced_file(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
        assert temporary.parent == path.parent
    assert path.read_text() == "whole"
    assert names(path.parent) == ["file.txt"]


def test_a_file_that_was_there_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old and longer")
    with replaced_file(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old and longer"
    assert path.read_text() == "new"


def test_a_file_with_as_long_a_name_as_can_be_is_written(tmp_path: Path) -> None:
    with replaced_file(tmp_path / ("a" * 255)) as temporary:
        temporary.write_text("x")
    assert names(tmp_path) == ["a" * 255]


def test_others_may_read_a_file(tmp_path: Path) -> None:
    with replaced_file(tmp_path / "file.txt") as temporary:
        temporary.write_text("x")
    assert (tmp_path / "file.txt").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("error", [Failure, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(error), replaced_file(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_what_a_killed_process_was_writing_can_be_removed(tmp_path: Path) -> None:
    (tmp_path / ".profile").touch()
    left = killed_while_writing(tmp_path / "below" / "file.txt")
    assert left.read_text() == "half"
    remove_temporary_files(tmp_path)
    assert names(tmp_path / "below") == []
    assert names(tmp_path) == [".profile", "below"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HOME", str(tmp_path))
    return str(tmp_path)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("HOME", "~"),
        ("HOME/photos", "~/photos"),
        ("folder:HOME/my photos", "folder:~/my photos"),
        ("--out=HOME/runs/x", "--out=~/runs/x"),
        ('name = "trace-of:SNR:HOME/a.csv"', 'name = "trace-of:SNR:~/a.csv"'),
        ("HOME/a HOME/b", "~/a ~/b"),
        ("HOMEwork/a", "HOMEwork/a"),
        ("HOME.old/a", "HOME.old/a"),
        ("/backupHOME/a", "/backupHOME/a"),
        ("runs/photos", "runs/photos"),
    ],
)
def test_the_home_folder_is_written_short(home: str, text: str, written: str) -> None:
    assert with_short_home(text.replace("HOME", home)) == written.replace("HOME", home)


@pytest.mark.parametrize("home", ["/", ""])
def test_a_user_without_a_home_folder_keeps_the_paths(monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    monkeypatch.setenv("HOME", home)
    assert with_short_home("folder:/srv/photos") == "folder:/srv/photos"


@pytest.mark.parametrize(
    ("word", "written"),
    [
        ("HOME/runs/x", "~/runs/x"),
        ("/srv/ada/photos", "photos"),
        ("folder:/srv/ada/my photos/", "folder:my photos/"),
        ("--out=/srv/ada/x", "--out=x"),
        ("trace-of:SNR:/srv/ada:b/x.csv", "trace-of:SNR:x.csv"),
        ("runs/x", "runs/x"),
        ("hf:google/vit", "hf:google/vit"),
        ("fixed:10,-5", "fixed:10,-5"),
    ],
)
def test_a_word_of_a_command_holds_nothing_of_this_machine_alone(home: str, word: str, written: str) -> None:
    assert portable(word.replace("HOME", home)) == written


@pytest.mark.parametrize("write", [write_whole, write_secret])
def test_a_file_that_does_not_fit_is_named(write: Callable[[Path, bytes], None], tmp_path: Path) -> None:
    before, limit = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limit[1]))
    try:
        with pytest.raises(OSError, match="File too large") as met:
            write(tmp_path / "whole", bytes(1000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
    assert met.value.filename == str(tmp_path / "whole")


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(OSError, match="it is no regular file"):
            read_regular(path)
    (tmp_path / "file").write_bytes(b"abc")
    assert (read_regular(tmp_path / "file"), read_regular(tmp_path / "file", 2)) == (b"abc", b"ab")
