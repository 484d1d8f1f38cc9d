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

from airmoe.checks import number_within
from airmoe.errors import DataError, InvalidInputError
from airmoe.files import AnyPath, as_path, sought_in
from airmoe.links.processes import HIGHEST_DB, LOWEST_DB, draw_shape
from airmoe.spec_text import Form, SpecText

SHORTEST_RUN = 2
MISSING = frozenset({"", "-", "nan", "na", "n/a", "null", "none"})
"""The texts of a cell without a value, in upper or lower case."""

POWERS = ("dbm", "rsrp", "rssi", "rscp", "rxlev")
"""What is in the name of a column of received power in dBm, in upper or lower case."""

NO_SNR = ("rsrq", "cqi")
"""What is in the name of a column that no noise power makes an SNR."""

WEAKEST_DB = -30.0
"""A recording that never reaches this is taken for a power in dBm: no receiver tells so low an SNR."""


@dataclass(frozen=True)
class TraceSnr(SpecText, rule="trace", written=("path",)):
    """Links that replay recordings: each plays a window of one, drawn at random.

    A row is a slot, in the order of the file; time stamps are not read. Missing values cut a recording into
    **runs** without gaps. A link draws a run with a probability proportional to its length, then the slot at
    which its window begins. A run shorter than the window is repeated, with a jump from its end to its
    beginning. Two links may get the same run. These rules are ours.

    Its text is "trace:PATH", "trace-of:COLUMN:PATH" or "trace-dbm:NOISE_DBM:COLUMN:PATH".

    Args:
        path: a CSV file whose first row names the columns, or a folder with such files at any depth. What is
            hidden in it, with a name that begins with a dot, is not read. "~" is the home folder.
        column: the column that holds the SNR in dB, or with ``noise_dbm`` the received power in dBm.
        noise_dbm: the noise power at the receiver in dBm, over the bandwidth that the powers are of; the SNR
            is the power minus it. None for a column that is an SNR.

    Raises:
        InvalidInputError: a file has no such column (the message lists those it has), or the column is a
            power, by its name or by values that all lie below -30, and ``noise_dbm`` is None.
        DataError: nothing is at the path, the folder has no CSV file, a file cannot be read or is cut off,
            an SNR is no number from -300 to 300, or no two samples follow each other.
    """

    path: Path
    column: str = "SNR"
    noise_dbm: float | None = None
    _samples_db_V: NDArray[np.float64] = field(init=False, repr=False, compare=False)
    _length_R: NDArray[np.int64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))
        runs_db = read_runs(self.path, self.column, self.noise_dbm)
        object.__setattr__(self, "_samples_db_V", np.concatenate(runs_db))
        object.__setattr__(self, "_length_R", np.array([len(run_db) for run_db in runs_db]))

    @property
    def digest(self) -> str:
        """SHA-256 of all samples and of the lengths of the runs."""
        samples, lengths = self._samples_db_V.tobytes(), self._length_R.tobytes()
        return hashlib.sha256(samples + lengths).hexdigest()

    @property
    def name(self) -> str:
        """E.g. "trace:recordings", or "trace-of:SINR:recordings" for another column."""
        if self.noise_dbm is not None:
            return POWER.text_of(self)
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

POWER = Form("trace-dbm", TraceSnr, needed=3, written=("noise_dbm", "column", "path"))
"""The text of recordings of received power."""


def read_runs(
    path: AnyPath, column: str = "SNR", noise_dbm: float | None = None
) -> list[NDArray[np.float64]]:
    """Return the recordings at a path, cut where values are missing; runs of one sample are left out.

    A value is missing where its cell is empty or one of `MISSING`, and in a file of one column where a line
    is blank. Blank lines between rows of more columns say nothing and are passed over.

    Args:
        path: a CSV file, or a folder with CSV files at any depth; see `TraceSnr`.
        column: the column to read.
        noise_dbm: what is taken from powers in dBm; None where the column is an SNR.

    Returns:
        SNR in dB, float64 arrays of at least two samples each, in the order of file names and rows.

    Raises:
        InvalidInputError: see `TraceSnr`.
        DataError: see `TraceSnr`.
    """
    _refuse_other_quantities(column, noise_dbm)
    noise = 0.0 if noise_dbm is None else number_within("noise_dbm", noise_dbm, LOWEST_DB, HIGHEST_DB)
    files = _csv_files(as_path(path))
    runs_db = [run_db for file in files for run_db in _runs(_read_column(file, column, noise))]
    if not runs_db:
        raise DataError(f"{path}: {column} is nowhere given in two rows after each other")
    if noise_dbm is None and (highest := max(float(run_db.max()) for run_db in runs_db)) < WEAKEST_DB:
        raise _a_power(f"highest {column} of {path}", highest, column)
    return runs_db


def _refuse_other_quantities(column: str, noise_dbm: float | None) -> None:
    """Raise where the name of a column says that it is no SNR, nor a power whose noise is given."""
    named = column.lower()
    if any(word in named for word in NO_SNR):
        raise InvalidInputError("column", column, "an SNR in dB, or a power in dBm: this is neither")
    if noise_dbm is None and any(word in named for word in POWERS):
        raise _a_power("column", column, column)


def _a_power(name: str, value: object, column: str) -> InvalidInputError:
    return InvalidInputError(
        name,
        value,
        "an SNR in dB; for a power in dBm give the noise power as well, for example "
        f"trace-dbm:-100:{column}:PATH, or noise_dbm=-100",
    )


def _csv_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder of traces{sought_in(path)}")
    files = [
        file
        for file in sorted(path.rglob("*"))
        if file.suffix.lower() == ".csv"
        and not any(name.startswith(".") for name in file.relative_to(path).parts)
        and file.is_file()
    ]
    if not files:
        raise DataError(f"{path}: holds no CSV file")
    return files


def _read_column(file: Path, column: str, noise: float) -> NDArray[np.float64]:
    """Return the values of a column minus the noise, NaN where they are missing."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            return np.array(list(_values(file, column, noise, lines)))
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: is no text in UTF-8 (byte {error.start})") from error
    except csv.Error as error:
        raise DataError(f"{file}: is no CSV file, or cut off ({error})") from error


def _values(file: Path, column: str, noise: float, lines: Iterable[str]) -> Iterator[float]:
    rows = csv.reader(lines, strict=True, skipinitialspace=True)
    heading = [name.strip() for name in next(filter(None, rows), [])]
    if column not in heading:
        names = ", ".join(heading) or "none: the file is empty"
        raise InvalidInputError("column", column, f"a column of {file}, which has {names}")
    place = heading.index(column)
    for row in rows:
        if not row and len(heading) == 1:
            row = [""]  # noqa: PLW2901 (a blank line is how one column writes an empty cell)
        if row and len(row) != len(heading):
            raise DataError(
                f"{file}: line {rows.line_num} has {len(row)} cells and the first line {len(heading)}; "
                "it may be cut off"
            )
        if row:
            yield _value(file, rows.line_num, column, row[place].strip(), noise)


def _value(file: Path, line: int, column: str, cell: str, noise: float) -> float:
    if cell.lower() in MISSING:
        return np.nan
    try:
        value = float(cell) - noise
    except ValueError:
        value = np.nan
    if not LOWEST_DB <= value <= HIGHEST_DB:
        raise DataError(
            f"{file}: {column} in line {line} is {cell!r}; expected a number from {LOWEST_DB + noise:g} to "
            f"{HIGHEST_DB + noise:g}, or an empty cell or - where it is missing"
        )
    return value


def _runs(value_V: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    given_V = np.concatenate([[False], ~np.isnan(value_V), [False]])
    begin_R, end_R = np.flatnonzero(np.diff(given_V.astype(np.int8))).reshape(-1, 2).T
    return [
        value_V[begin:end] for begin, end in zip(begin_R, end_R, strict=True) if end - begin >= SHORTEST_RUN
    ]
