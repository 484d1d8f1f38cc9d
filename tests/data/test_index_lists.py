"""A division of images that a file lists."""

import hashlib
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airmoe.data import index_lists, partition
from airmoe.data.partitions import make_partition, partition_digest, refuse_other_lists
from airmoe.errors import DataError, InvalidInputError

LABELS_T = np.arange(20) % 4


def listed(folder: Path, content: object) -> str:
    """The partition of a file with this content: a text as it is, else as JSON."""
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "lists.json").write_text(text, encoding="utf-8")
    return f"lists:{folder / 'lists.json'}"


def test_each_client_gets_the_images_of_its_list(tmp_path: Path) -> None:
    scheme = listed(tmp_path, [[5, 0, 7], [19, 1]])
    assert [part.tolist() for part in partition(LABELS_T, 2, scheme, seed=0)] == [[0, 5, 7], [1, 19]]


@given(random=st.randoms(use_true_random=False), clients=st.integers(1, 6))
def test_what_another_partition_gave_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, random: object, clients: int
) -> None:
    order = list(range(20))
    random.shuffle(order)  # type: ignore[attr-defined]
    lists = [sorted(order[client::clients]) for client in range(clients)]
    scheme = listed(tmp_path_factory.mktemp("lists"), lists)
    assert [part.tolist() for part in partition(LABELS_T, clients, scheme, seed=3)] == lists


def test_a_mark_at_the_beginning_of_the_file_is_no_part_of_it(tmp_path: Path) -> None:
    scheme = listed(tmp_path, "\ufeff[[0], [1]]")
    assert len(partition(LABELS_T, 2, scheme, seed=0)) == 2


def test_images_that_no_list_has_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    partition(LABELS_T, 2, listed(tmp_path, [[0], [1]]), seed=0)
    assert "of 20 images 18 go to no client, 0 to several" in caplog.text


WRONG: list[tuple[object, str]] = [
    ({"0": [1]}, r"lists.json is \{'0': \[1\]\}; expected a list with a list of indices for each client"),
    ([[0], 3], "lists.json: client 1 is 3; expected a list of one index at least"),
    ([[], [3]], r"lists.json: client 0 is \[\]; expected a list of one index at least"),
    ([[0, 1], [3, 20]], r"lists.json: client 1\[1\] is 20; expected an integer from 0 to 19"),
    ([[0, -1], [3]], r"lists.json: client 0\[1\] is -1; expected an integer from 0 to 19"),
    ([[0, True], [3]], r"lists.json: client 0\[1\] is True; expected an integer from 0 to 19"),
    ([[0, 1.0], [3]], r"lists.json: client 0\[1\] is 1.0; expected an integer from 0 to 19"),
    ([[0, [1]], [3]], r"lists.json: client 0\[1\] is \[1\]; expected an integer from 0 to 19"),
    ([[0, 4, 0], [3]], r"client 0\[2\] is 0; expected every image once: client 0\[0\] has it, too"),
    ([[0, 4], [3, 4]], r"client 1\[1\] is 4; expected every image once: client 0\[1\] has it, too"),
    ([[0]], "clients is 2; expected 1, the number of lists in "),
    ([[0], [1], [2]], "clients is 2; expected 3, the number of lists in "),
]


@pytest.mark.parametrize(("content", "said"), WRONG)
def test_a_wrong_list_is_named_with_client_and_place(tmp_path: Path, content: object, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        partition(LABELS_T, 2, listed(tmp_path, content), seed=0)


@pytest.mark.parametrize("text", ["", "[[0], [1]", "[" * 100_000, "[[1" + "0" * 5000 + "]]", "\x00"])
def test_a_file_that_is_no_json_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match=r"lists.json is no JSON: "):
        partition(LABELS_T, 2, listed(tmp_path, text), seed=0)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scheme = listed(tmp_path, [[0], [1]])
    size = (tmp_path / "lists.json").stat().st_size
    monkeypatch.setattr(index_lists, "MOST_LIST_BYTES", size)
    partition(LABELS_T, 2, scheme, seed=0)
    monkeypatch.setattr(index_lists, "MOST_LIST_BYTES", size - 1)
    with pytest.raises(DataError, match=f"has {size} bytes; expected at most {size - 1}"):
        partition(LABELS_T, 2, scheme, seed=0)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="pipe is no regular file"):
        refuse_other_lists(f"lists:{tmp_path / 'pipe'}", 2)


def test_a_file_that_is_not_there_is_told_where_it_was_looked_for() -> None:
    with pytest.raises(DataError, match=rf"^none.json cannot be read: .*{re.escape(str(Path.cwd()))}"):
        refuse_other_lists("lists:none.json", 2)


def test_the_file_is_found_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    listed(tmp_path, [[0], [1]])
    refuse_other_lists("lists:~/lists.json", 2)


def test_the_number_of_lists_is_checked_before_images_are_there(tmp_path: Path) -> None:
    scheme = listed(tmp_path, [[0], [1]])
    refuse_other_lists(scheme, 2)
    with pytest.raises(InvalidInputError, match="clients is 3; expected 2"):
        refuse_other_lists(scheme, 3)
    refuse_other_lists("ring", 3)


def test_the_digest_is_that_of_the_file(tmp_path: Path) -> None:
    scheme = listed(tmp_path, [[0], [1]])
    assert partition_digest(scheme) == hashlib.sha256(b"[[0], [1]]").hexdigest()
    assert partition_digest("dirichlet:0.5") == ""


def test_the_name_has_the_path_with_its_colons() -> None:
    assert make_partition("lists:a:b.json").name == "lists:a:b.json"  # type: ignore[attr-defined]
