"""Texts by domain, as bytes, split by document: what is asked of a model was not in any document it learnt.

Shape suffixes: W windows, S positions.
"""

from __future__ import annotations

import ast
import hashlib
import sysconfig
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from airmoe.errors import DataError, InvalidInputError
from airmoe.files import as_path
from airmoe.showing import OneLine

HELD_OUT = 0.1
"""Share of a domain's bytes that are held out, at least a document; of the rest as much chooses settings."""

LONG_LINE = 40
"""Bytes of a line that tells where it comes from."""

RELATED = 0.2
"""Share of such lines of the shorter of two documents; if they share as many, they are split as one."""

MOST_HOLDERS = 20
"""A line that more documents hold, such as a licence, relates none of them."""

PYTHON, _FOLDER = "python", "folder:"
_NAMES = "python or folder:PATH"
_LEAST_DOCUMENTS = 3
_PARTING = b"\n\n"


@dataclass(frozen=True)
class Domain:
    """The documents of one domain, each in one part only.

    Attributes:
        name: of the domain.
        train: to learn from.
        validation: to choose settings on.
        test: to measure with, once.
    """

    name: str
    train: tuple[bytes, ...]
    validation: tuple[bytes, ...]
    test: tuple[bytes, ...]


@dataclass(frozen=True, repr=False)
class Texts(OneLine):
    """Texts of several domains.

    Attributes:
        name: as `load_texts` was given it.
        domains: in alphabetical order.
    """

    name: str
    domains: tuple[Domain, ...]

    def __repr__(self) -> str:
        """Return the domains and their bytes in one line."""
        sizes = ", ".join(f"{each.name} {sum(map(len, each.train)):,} bytes" for each in self.domains)
        return f"Texts({self.name}: {sizes})"

    @property
    def digest(self) -> str:
        """SHA-256 of all documents and their parts."""
        digest = hashlib.sha256()
        for domain in self.domains:
            for part, documents in (
                ("train", domain.train),
                ("validation", domain.validation),
                ("test", domain.test),
            ):
                digest.update(f"{domain.name} {part} {[len(each) for each in documents]}".encode())
                for document in documents:
                    digest.update(document)
        return digest.hexdigest()


def load_texts(name: str = PYTHON) -> Texts:
    """Load texts; the split into documents for training, validation and test never depends on a seed.

    * ``"python"``: what every Python brings along: the sources of its standard library without their
      docstrings (domain ``code``), and these docstrings and the language reference (``prose``). They differ
      between versions of Python.
    * ``"folder:PATH"``: PATH holds one folder per domain, with a file per document, at least three; files of
      folders below count, too. Bytes are taken as they are.

    Documents of equal content count once, and documents that share much stay together (`related`). Documents
    that make up a tenth of a domain's bytes are held out, and of the rest as many are for validation, in the
    order of their digests.

    Raises:
        InvalidInputError: the name is none of these.
        DataError: a folder cannot be read, has fewer than two domains, or a domain too few documents.

    Examples:
        >>> from airmoe.language import load_texts
        >>> [domain.name for domain in load_texts("python").domains]
        ['code', 'prose']
    """
    if name == PYTHON:
        code, docstrings = _library_of_python()
        return _texts(name, {"code": code, "prose": docstrings + _reference_of_python()})
    if not name.startswith(_FOLDER):
        raise InvalidInputError("texts", name, _NAMES)
    if name == _FOLDER:
        raise InvalidInputError("texts", name, f"{_NAMES}, PATH not empty")
    folder = as_path(name.removeprefix(_FOLDER)).expanduser()
    try:
        found = {
            place.name: [path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file()]
            for place in sorted(folder.iterdir())
            if place.is_dir() and not place.name.startswith(".")
        }
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror or error}") from None
    if len(found) < 2:
        raise DataError(f"{folder}: {len(found)} domains; expected a folder for each of at least two")
    return _texts(name, found)


def _texts(name: str, found: Mapping[str, list[bytes]]) -> Texts:
    return Texts(name, tuple(_split(domain, documents) for domain, documents in sorted(found.items())))


def _split(name: str, documents: list[bytes]) -> Domain:
    by_digest = {hashlib.sha256(document).digest(): document for document in documents if document}
    groups = related([by_digest[digest] for digest in sorted(by_digest)])
    if len(groups) < _LEAST_DOCUMENTS:
        told = f"{len(groups)} documents; expected at least {_LEAST_DOCUMENTS} that differ"
        raise DataError(f"domain {name}: {told}")
    test, groups = _taken(groups, leave=2)
    validation, groups = _taken(groups, leave=1)
    return Domain(name, tuple(document for group in groups for document in group), validation, test)


def _taken(groups: list[list[bytes]], leave: int) -> tuple[tuple[bytes, ...], list[list[bytes]]]:
    """Return the documents of the first groups that make up a tenth of all bytes, and the other groups.

    At least ``leave`` groups stay.
    """
    sizes = [sum(map(len, group)) for group in groups]
    left, taken = HELD_OUT * sum(sizes), list[int]()
    for number, size in enumerate(sizes):
        if size <= left and len(groups) - len(taken) > leave:
            taken.append(number)
            left -= size
    taken = taken or [sizes.index(min(sizes))]
    others = [group for number, group in enumerate(groups) if number not in taken]
    return tuple(document for number in taken for document in groups[number]), others


def related(documents: Sequence[bytes]) -> list[list[bytes]]:
    """Return the documents in groups: two that share a fifth of the shorter one's long lines are in one.

    So a text that repeats another is never asked about where the other was learnt.
    """
    lines = [
        {line.strip() for line in document.splitlines() if len(line.strip()) >= LONG_LINE}
        for document in documents
    ]
    holders = dict[bytes, list[int]]()
    for number, of_document in enumerate(lines):
        for line in of_document:
            holders.setdefault(line, []).append(number)
    shared = Counter(
        pair
        for numbers in holders.values()
        if len(numbers) <= MOST_HOLDERS
        for pair in combinations(numbers, 2)
    )
    group = list(range(len(documents)))

    def first(number: int) -> int:
        while group[number] != number:
            number = group[number]
        return number

    for (one, other), count in shared.items():
        if count >= RELATED * min(len(lines[one]), len(lines[other])):
            low, high = sorted((first(one), first(other)))
            group[high] = low
    found = dict[int, list[bytes]]()
    for number, document in enumerate(documents):
        found.setdefault(first(number), []).append(document)
    return list(found.values())


def _library_of_python() -> tuple[list[bytes], list[bytes]]:
    """Return the modules of the standard library without their docstrings, and their docstrings."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    parted = [code_and_docstrings(path.read_bytes()) for path in sorted(folder.glob("*.py"))]
    return [code for code, _ in parted], [docstrings for _, docstrings in parted]


def code_and_docstrings(source: bytes) -> tuple[bytes, bytes]:
    """Return a module's source without the lines of its docstrings, and these, parted by empty lines."""
    told, lines, all_lines = list[str](), set[int](), source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring is not None:
                told.append(docstring)
                first = node.body[0]
                span = range(first.lineno, (first.end_lineno or first.lineno) + 1)
                before = all_lines[span[0] - 1][: first.col_offset].strip()
                behind = all_lines[span[-1] - 1][first.end_col_offset :].strip()
                if not before and behind[:1] in (b"", b"#"):  # else code stands on its lines
                    lines.update(span)
    kept = [line for number, line in enumerate(all_lines, 1) if number not in lines]
    return b"".join(kept), _PARTING.join(text.encode() for text in told)


def _reference_of_python() -> list[bytes]:
    from pydoc_data.topics import topics

    return [text.encode() for _, text in sorted(topics.items())]


def joined(documents: tuple[bytes, ...]) -> NDArray[np.uint8]:
    """Return documents one after another, parted by an empty line."""
    return np.frombuffer(_PARTING.join(documents), dtype=np.uint8)


def drawn_windows(
    text: NDArray[np.uint8], windows: int, steps: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """Return (W, S) windows of a text at places drawn at random; one shorter than S is repeated.

    Args:
        text: bytes.
        windows: W.
        steps: S.
        random: draws the places.
    """
    if len(text) < steps:
        text = np.tile(text, -(-steps // len(text)))
    start_W = random.integers(0, len(text) - steps + 1, windows)
    return np.asarray(text[start_W[:, np.newaxis] + np.arange(steps)], dtype=np.int64)
