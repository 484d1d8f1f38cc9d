"""Texts by domain, split by document."""

import re
from pathlib import Path

import numpy as np
import pytest

from airmoe.errors import DataError, InvalidInputError
from airmoe.language import Texts, load_texts
from airmoe.language.measure import questions, windows_of
from airmoe.language.texts import code_and_docstrings, drawn_windows, joined, related


@pytest.fixture(scope="module")
def python() -> Texts:
    return load_texts("python")


def test_python_brings_code_and_prose(python: Texts) -> None:
    code, prose = python.domains
    assert (code.name, prose.name) == ("code", "prose")
    assert any(b"def " in document for document in code.train)
    assert any(b"statement" in document for document in prose.train)
    for domain in python.domains:
        assert min(map(len, (domain.train, domain.validation, domain.test))) >= 3
        assert len(joined(domain.train)) > 250_000
    assert re.fullmatch(r"Texts\(python: code [\d,]+ bytes, prose [\d,]+ bytes\)", repr(python))


def test_no_document_is_in_two_parts_and_no_question_in_what_is_learnt(python: Texts) -> None:
    for domain in python.domains:
        parts = [set(part) for part in (domain.train, domain.validation, domain.test)]
        assert len(set.union(*parts)) == sum(map(len, parts))
    learnt = b"\0".join(document for domain in python.domains for document in domain.train)
    for windows_WS in questions(python, 127, 300):
        assert len(windows_WS) > 200
        assert not any(bytes(window_S.tolist()) in learnt for window_S in windows_WS)


def test_docstrings_are_parted_from_the_code_around_them() -> None:
    source = b'''"""A module."""
import os


class C:
    """A class,
    at length."""

    def f(self):
        "One line."
        return """no docstring"""
'''
    code, docstrings = code_and_docstrings(source)
    assert docstrings == b"A module.\n\nA class,\nat length.\n\nOne line."
    assert code == b'import os\n\n\nclass C:\n\n    def f(self):\n        return """no docstring"""\n'
    assert code_and_docstrings(b"x = 1\n") == (b"x = 1\n", b"")


def test_code_on_a_docstring_s_line_stays() -> None:
    source = b'class C: "doc"\ndef f(): "doc"; x = 1\ndef g():\n    "doc"  # a comment\n    return 1\n'
    code, docstrings = code_and_docstrings(source)
    assert code == b'class C: "doc"\ndef f(): "doc"; x = 1\ndef g():\n    return 1\n'
    assert docstrings == b"doc\n\ndoc\n\ndoc"


def test_every_part_has_a_document_however_long_they_are(tmp_path: Path) -> None:
    for domain in ("a", "b"):
        (tmp_path / domain).mkdir()
        for number, length in enumerate((10, 12, 3000)):
            (tmp_path / domain / str(number)).write_bytes(bytes([65 + number]) * length)
    for part in load_texts(f"folder:{tmp_path}").domains:
        assert [len(each) for each in (part.train, part.validation, part.test)] == [1, 1, 1]


def test_questions_are_of_the_held_out_documents_alone(python: Texts) -> None:
    for domain, windows_WS in zip(python.domains, questions(python, 63, 50), strict=True):
        test = joined(domain.test).tobytes()
        assert all(bytes(window_S.tolist()) in test for window_S in windows_WS)


def test_held_out_texts_that_hold_no_window_are_refused(tmp_path: Path) -> None:
    for domain in ("a", "b"):
        (tmp_path / domain).mkdir()
        for number in range(4):
            (tmp_path / domain / str(number)).write_bytes(bytes([65 + number]) * 40)
    texts = load_texts(f"folder:{tmp_path}")
    with pytest.raises(DataError, match="domain a: 40 bytes of held-out text; expected 65, a window"):
        questions(texts, 64, 10)


def test_documents_that_share_much_stay_together() -> None:
    lines = [f"this is line {number} of a text that is long enough to tell".encode() for number in range(40)]
    first, again, other = b"\n".join(lines[:20]), b"\n".join(lines[16:30]), b"\n".join(lines[30:])
    licence = lines[0] + b"\nwhat nobody else says, and says at length, to be a document of its own\n" * 9
    groups = related([other, first, licence, again])
    assert groups == [[other], [first, licence, again]]
    assert related([first, lines[0] + b"\n" + other]) == [[first], [lines[0] + b"\n" + other]]


def test_a_folder_of_ones_own_has_a_folder_per_domain(tmp_path: Path) -> None:
    for domain in ("law", "art"):
        (tmp_path / domain / "deep").mkdir(parents=True)
        for number in range(20):
            (tmp_path / domain / "deep" / f"{number}.txt").write_bytes(
                f"{domain} \xff{number:02}".encode("latin-1")
            )
        (tmp_path / domain / "copy.txt").write_bytes(f"{domain} \xff03".encode("latin-1"))
    (tmp_path / ".git").mkdir()
    (tmp_path / "read me.txt").write_text("no domain")
    texts = load_texts(f"folder:{tmp_path}")
    assert [domain.name for domain in texts.domains] == ["art", "law"]
    for domain in texts.domains:
        assert [len(part) for part in (domain.train, domain.validation, domain.test)] == [17, 1, 2]
    again = load_texts(f"folder:{tmp_path}")
    assert again == texts
    assert again.digest == texts.digest
    (tmp_path / "art" / "new.txt").write_bytes(b"more")
    assert load_texts(f"folder:{tmp_path}").digest != texts.digest


def test_what_is_no_set_of_texts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="texts is 'latin'; expected python or folder:PATH"):
        load_texts("latin")
    with pytest.raises(InvalidInputError, match="texts is 'folder:'"):
        load_texts("folder:")
    with pytest.raises(DataError, match="absent: No such file or directory"):
        load_texts(f"folder:{tmp_path / 'absent'}")
    (tmp_path / "one").mkdir()
    with pytest.raises(DataError, match="1 domains; expected a folder for each of at least two"):
        load_texts(f"folder:{tmp_path}")
    (tmp_path / "two").mkdir()
    for number in (1, 2):
        (tmp_path / "one" / str(number)).write_bytes(b"the same")
    with pytest.raises(DataError, match="domain one: 1 documents; expected at least 3 that differ"):
        load_texts(f"folder:{tmp_path}")


def test_windows_are_pieces_of_the_text() -> None:
    text = np.frombuffer(bytes(range(200)), np.uint8)
    drawn = drawn_windows(text, 50, 30, np.random.default_rng(0))
    assert drawn.shape == (50, 30)
    assert (np.diff(drawn, axis=1) == 1).all()
    assert len(np.unique(drawn[:, 0])) > 20
    assert drawn_windows(text[:4], 1, 10, np.random.default_rng(0)).shape == (1, 10)


def test_windows_to_measure_on_do_not_overlap_and_spread_over_the_text() -> None:
    text = np.arange(1000, dtype=np.uint16).astype(np.uint8)
    windows = windows_of(text, 9, 5)
    assert windows.shape == (5, 10)
    assert windows[0, 0] == 0
    assert windows[-1, -1] == text[999]
    assert len(windows_of(text, 9, 1000)) == 100
