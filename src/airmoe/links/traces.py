"""Recorded SNR: CSV files, one sample per slot.

Shape suffixes: S slots, L links, R runs, V samples of all runs together.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from airmoe.errors import DataError, InvalidInputError
from airmoe.files import AnyPath, as_path
from airmoe.links.processes import HIGHEST_DB, LOWEST_DB, draw_shape
from airmoe.spec_text import Form, SpecText

SHORTEST_RUN = 2
MISSING = frozenset({"", "-", "nan", "na", "n/a", "null", "none"})
"""The texts of a cell without a value, in upper or lower case."""


@dataclass(frozen=True)
class TraceSnr(SpecText, rule="trace", written=("path",)):
    """Links that replay recordings: each plays a window of one, drawn at random.

    A row is a slot, in the order of the file; time stamps are not read. Missing values cut a recording into
    **runs** without gaps. A link draws a run with a probability proportional to its length, then the slot at
    which its window begins. A run shorter than the window is repeated, with a jump from its end to its
    beginning. Two links may get the same run. These rules are ours.

    Its text is "trace:PATH" or "trace-of:COLUMN:PATH".

    Args:
        path: a CSV file whose first row names the columns, or a folder with such files at any depth. Hidden
            files, whose names begin with a dot, are not read. "~" is the home folder.
        column: the column that holds the SNR in dB.

    Raises:
        InvalidInputError: a file has no such column (the message lists those it has).
        DataError: nothing is at the path, the folder has no CSV file, a file cannot be read or is cut off,
            a value is no number from -300 to 300, or no two samples follow each other.
    """

    path: Path
    column: str = "SNR"
    _samples_db_V: NDArray[np.float64] = field(init=False, repr=False, compare=False)
    _length_R: NDArray[np.int64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))
        runs_db = read_runs(self.path, self.column)
        object.__setattr__(self, "_samples_db_V", np.concatenate(runs_db))
        object.__setattr__(self, "_length_R", np.array([len(run_db) for run_db in runs_db]))

    @property
    def digest(self) -> str:
        """SHA-256 of all samples and of the lengths of the runs."""
        samples, lengths = self._samples_db_V.tobytes(), self._length_R.tobytes()
        return hashlib.sha256(samples + lengths).hexdigest()

    @property
    def name(self) -> str:
        """E.g. "trace:recordings", or "trace-of:RSRP:recordings" for another column."""
        return (self.form if self.column == "SNR" else OTHER_COLUMN).text_of(self)

    def draw(self, slots: int, links: int, random: np.random.Generator) -> NDArray[np.float64]:
        """Return (S, L), dB; see `SnrProcess.draw`."""
        draw_shape(slots, links)
        first_R = np.cumsum(self._length_R) - self._length_R
        run_L = random.choice(len(first_R), links, p=self._length_R / self._length_R.sum())
        length_L = self._length_R[run_L]
        begin_L = random.integers(np.where(length_L >= slots, length_L - slots + 1, length_L))
        sample_SL = first_R[run_L] + (begin_L + np.arange(slots)[:, np.newaxis]) % length_L
        return self._samples_db_V[sample_SL]


OTHER_COLUMN = Form("trace-of", TraceSnr, needed=2, written=("column", "path"))
"""The text of recordings whose column is not called SNR."""


def read_runs(path: AnyPath, column: str = "SNR") -> list[NDArray[np.float64]]:
    """Return the recordings at a path, cut where values are missing; runs of one sample are left out.

    Args:
        path: a CSV file, or a folder with CSV files at any depth; see `TraceSnr`.
        column: the column to read.

    Returns:
        float64 arrays of at least two samples each, in the order of file names and rows.

    Raises:
        InvalidInputError: a file has no such column (the message lists those it has).
        DataError: see `TraceSnr`.
    """
    files = _csv_files(as_path(path))
    runs_db = [run_db for file in files for run_db in _runs(_read_column(file, column))]
    if not runs_db:
        raise DataError(f"{path}: {column} is nowhere given in two rows after each other")
    return runs_db


def _csv_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder of traces")
    files = [
        file
        for file in sorted(path.rglob("*"))
        if file.suffix.lower() == ".csv" and not file.name.startswith(".") and file.is_file()
    ]
    if not files:
        raise DataError(f"{path}: holds no CSV file")
    return files


def _read_column(file: Path, column: str) -> NDArray[np.float64]:
    """Return the values of a column, NaN where they are missing."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            return np.array(list(_values(file, column, lines)))
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: is no text in UTF-8 (byte {error.start})") from error
    except csv.Error as error:
        raise DataError(f"{file}: is no CSV file, or cut off ({error})") from error


def _values(file: Path, column: str, lines: Iterable[str]) -> Iterator[float]:
    rows = csv.reader(lines, strict=True, skipinitialspace=True)
    heading = [name.strip() for name in next(rows, [])]
    if column not in heading:
        names = ", ".join(heading) or "none: the file is empty"
        raise InvalidInputError("column", column, f"a column of {file}, which has {names}")
    place = heading.index(column)
    for row in rows:
        if len(row) != len(heading) and row:
            raise DataError(
                f"{file}: line {rows.line_num} has {len(row)} cells and the first line {len(heading)}; "
                "it may be cut off"
            )
        if row:
            yield _value(file, rows.line_num, column, row[place].strip())


def _value(file: Path, line: int, column: str, cell: str) -> float:
    if cell.lower() in MISSING:
        return np.nan
    try:
        value = float(cell)
    except ValueError:
        value = np.nan
    if not LOWEST_DB <= value <= HIGHEST_DB:
        raise DataError(
            f"{file}: {column} in line {line} is {cell!r}; expected a number from {LOWEST_DB:g} to "
            f"{HIGHEST_DB:g}, or an empty cell or - where it is missing"
        )
    return value


def _runs(value_V: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    given_V = np.concatenate([[False], ~np.isnan(value_V), [False]])
    begin_R, end_R = np.flatnonzero(np.diff(given_V.astype(np.int8))).reshape(-1, 2).T
    return [
        value_V[begin:end] for begin, end in zip(begin_R, end_R, strict=True) if end - begin >= SHORTEST_RUN
    ]
