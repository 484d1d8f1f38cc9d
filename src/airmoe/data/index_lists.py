"""A division of images that a file lists: for each client the indices of its images.

Shape suffixes: T images, I indices of a client.
"""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from airmoe.errors import DataError, InvalidInputError
from airmoe.files import as_path, sought_in
from airmoe.spec_text import SpecText

MOST_LIST_BYTES = 1 << 24
"""Size of the largest file of lists: enough for two million indices."""


@dataclass(frozen=True)
class IndexLists(SpecText, rule="lists"):
    """Client i holds the images of the i-th list in a file; see `airmoe.data.partition`.

    Args:
        file: JSON, a list of lists of integers. It is read when it is needed. "~" is the home folder.
    """

    file: Path

    @property
    def digest(self) -> str:
        """SHA-256 of the file.

        Raises:
            DataError: it is missing, too large, or no regular file.
        """
        return hashlib.sha256(self._bytes()).hexdigest()

    def refuse_other_number(self, clients: int) -> list[object]:
        """Return the lists as they are written, if there are as many as clients.

        Raises:
            DataError: as `digest`, or the file is no JSON.
            InvalidInputError: it holds something else than a list, or a list of another length.
        """
        try:
            lists = json.loads(self._bytes().decode("utf-8-sig"))  # Windows writes a mark at the beginning
        except (ValueError, RecursionError) as error:
            raise DataError(f"{self.file} is no JSON: {error}") from None
        if not isinstance(lists, list):
            raise InvalidInputError(str(self.file), lists, "a list with a list of indices for each client")
        if len(lists) != clients:
            expected = f"{len(lists)}, the number of lists in {self.file}"
            raise InvalidInputError("clients", clients, expected)
        return lists

    def __call__(
        self, labels_T: NDArray[np.integer], clients: int, random: np.random.Generator
    ) -> list[NDArray[np.int64]]:
        """Divide; see `airmoe.data.partitions.Partition`.

        Raises:
            DataError: as `refuse_other_number`.
            InvalidInputError: likewise; or a list is empty, or an index is no integer, out of range, or there
                already. The message names client and place.
        """
        held_by = dict[int, str]()
        parts = []
        for client, listed in enumerate(self.refuse_other_number(clients)):
            where = f"{self.file}: client {client}"
            if not isinstance(listed, list) or not listed:
                raise InvalidInputError(where, listed, "a list of one index at least")
            self._take(listed, where, len(labels_T), held_by)
            parts.append(np.array(listed, np.int64))
        return parts

    def _take(self, listed: Sequence[object], where: str, images: int, held_by: dict[int, str]) -> None:
        """Check a client's indices, and note for each of them where it stands."""
        for place, index in enumerate(listed):
            name = f"{where}[{place}]"
            if type(index) is not int or not 0 <= index < images:  # a bool is no index
                expected = f"an integer from 0 to {images - 1}, the index of a training image"
                raise InvalidInputError(name, index, expected)
            if index in held_by:
                raise InvalidInputError(name, index, f"every image once: {held_by[index]} has it, too")
            held_by[index] = name.removeprefix(f"{self.file}: ")

    def _bytes(self) -> bytes:
        path = as_path(self.file)
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):  # a pipe may never end
                raise DataError(f"{self.file} is no regular file; expected JSON with lists of indices")
            if status.st_size > MOST_LIST_BYTES:
                raise DataError(f"{self.file} has {status.st_size} bytes; expected at most {MOST_LIST_BYTES}")
            return path.read_bytes()
        except OSError as error:
            raise DataError(f"{self.file} cannot be read: {error.strerror}{sought_in(path)}") from None
