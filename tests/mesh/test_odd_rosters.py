"""Addresses and rosters of odd content: each is refused by name at once, and none is read without end."""

import os
from pathlib import Path

import pytest

from airmoe.errors import AddressError
from airmoe.mesh.addresses import MOST_ADDRESS_BYTES, known


def refusal(entry: str | Path) -> str:
    with pytest.raises(AddressError) as raised:
        known([entry])
    return str(raised.value)


def test_a_port_of_thousands_of_digits_is_malformed(tmp_path: Path) -> None:
    address = "127.0.0.1:" + "9" * 5000
    roster = tmp_path / "nodes.txt"
    roster.write_text(address, encoding="utf-8")
    assert "expected HOST:PORT" in refusal(address)
    assert refusal(roster).startswith("nodes.txt, line 1: ")


def test_what_is_too_long_for_the_name_of_a_file_is_no_address() -> None:
    assert "expected HOST:PORT" in refusal("x" * 5000)


def test_a_pipe_is_no_roster_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path / "pipe") == "cannot read pipe: it is no regular file"


def test_a_device_without_end_is_no_roster() -> None:
    assert refusal(Path("/dev/zero")) == "cannot read zero: it is no regular file"


def test_a_file_of_any_size_is_not_read_whole(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as large:
        large.truncate(MOST_ADDRESS_BYTES + 1)
    assert (
        refusal(tmp_path / "large")
        == "large has 1048577 bytes; expected a file of addresses of at most 1048576"
    )


def test_a_roster_that_is_missing_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none") == "cannot read none: No such file or directory"


def test_a_mark_at_the_beginning_as_windows_writes_it_is_no_part_of_an_address(tmp_path: Path) -> None:
    (tmp_path / "nodes.txt").write_text("127.0.0.1:7447\n", encoding="utf-8-sig")
    assert known([tmp_path / "nodes.txt"]).addresses == ("127.0.0.1:7447",)
