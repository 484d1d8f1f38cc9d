"""Rows of results, one per curve, value and seed: as CSV, as means and spreads, as tables."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from airmoe.report.table import Cell, Mean, Table, deviation_of

Row = Mapping[str, float]
KEYS = ("x", "seed")


class Spread(NamedTuple):
    """Mean and standard deviation over seeds at each x, x ascending; the deviation of one seed is 0."""

    x: list[float]
    mean: list[float]
    deviation: list[float]
    seeds: int


def write_csv(curve: str, rows: Iterable[Row], columns: Sequence[str]) -> str:
    """Return rows of one curve as CSV that `read_csv` reads back to the same numbers."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("curve", *KEYS, *columns))
    for row in rows:
        writer.writerow((curve, *(repr(row[name]) for name in (*KEYS, *columns))))
    return text.getvalue()


def join_csv(parts: Sequence[str]) -> str:
    """Return one CSV out of several with the same columns."""
    return parts[0] + "".join(part.partition("\n")[2] for part in parts[1:])


class Rows:
    """The rows of one figure.

    Args:
        by_curve: the rows of each curve.
    """

    def __init__(self, by_curve: Mapping[str, Sequence[Row]]) -> None:
        self._by_curve = by_curve

    @classmethod
    def read_csv(cls, text: str, columns: Sequence[str]) -> "Rows":
        """Return the rows of a CSV.

        Raises:
            ValueError: the columns are others, or a field is no number.
        """
        by_curve: dict[str, list[Row]] = {}
        lines = csv.reader(io.StringIO(text))
        names = next(lines, [])
        if names != ["curve", *KEYS, *columns]:
            raise ValueError(f"its columns are {','.join(names)}")
        for curve, *fields in lines:
            row = dict(zip(names[1:], map(float, fields), strict=True))
            by_curve.setdefault(curve, []).append(row)
        return cls(by_curve)

    def of(self, curve: str) -> Sequence[Row]:
        """Return the rows of one curve, if any."""
        return self._by_curve.get(curve, [])

    def spread(self, curve: str, value: str | Callable[[Row], float]) -> Spread:
        """Return mean and standard deviation over seeds of a column, or of what is worked out from a row."""
        read = value if callable(value) else lambda row: row[value]
        at: dict[float, list[float]] = {}
        for row in self.of(curve):
            at.setdefault(row["x"], []).append(read(row))
        x = sorted(at)
        return Spread(
            x,
            [float(np.mean(at[value])) for value in x],
            [deviation_of(at[value]) for value in x],
            max(map(len, at.values()), default=0),
        )


def sweep_table(
    name: str, title: str, x_label: str, columns: Mapping[str, Spread], *, unit: str = "", note: str = ""
) -> Table:
    """Return a table with a row per x and a column of mean and deviation per curve."""
    every_x = sorted({x for spread in columns.values() for x in spread.x})
    cells: dict[str, dict[float, Cell]] = {
        column: {
            x: Mean(mean, deviation)
            for x, mean, deviation in zip(spread.x, spread.mean, spread.deviation, strict=True)
        }
        for column, spread in columns.items()
    }
    rows: list[list[Cell]] = [[f"{x:g}", *(cells[column].get(x, "") for column in columns)] for x in every_x]
    return Table(name, title, [x_label, *columns], rows, unit, note)


def scaled(spread: Spread, scale: float) -> Spread:
    """Return a spread in another unit."""
    return spread._replace(
        mean=[scale * value for value in spread.mean],
        deviation=[scale * value for value in spread.deviation],
    )
