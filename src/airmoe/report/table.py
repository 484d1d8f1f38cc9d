"""Tables of any study or evaluation: for the terminal, as Markdown, CSV and LaTeX."""

import csv
import io
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from airmoe.report.terminal import ScreenTable


class Mean(NamedTuple):
    """A mean and its standard deviation, in the unit of the column."""

    mean: float
    deviation: float


Cell = str | float | Mean

ROUNDING = 1e-12
"""Numbers that differ by no more than this share are the same."""

COLUMN_PT, PAGE_PT = 252, 516
"""Widths of one and of two columns of an IEEE page in LaTeX."""

LETTER_PT, BETWEEN_PT = 5, 12
"""About how wide a letter of 10 pt is, and LaTeX's space between columns."""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: of its files, without the suffix.
        title: what it shows.
        header: title of each column; with its unit, unless all but the first have the same.
        rows: a cell per column; "" where there is nothing.
        unit: the unit of all columns but the first.
        note: a sentence below it.
    """

    name: str
    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    unit: str = ""
    note: str = ""

    @property
    def heading(self) -> str:
        """The title with the unit."""
        return f"{self.title}, {self.unit}" if self.unit else self.title

    def markdown(self) -> str:
        """Return it for a page, below its title."""
        lines = [self.header, ["---", *["---:"] * (len(self.header) - 1)]]
        lines += [[cell_text(cell) for cell in row] for row in self.rows]
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
        return f"{self.heading}:\n\n{table}" + (f"\n{self.note}\n" if self.note else "")

    def csv(self) -> str:
        """Return it as CSV with every digit; a column of means is followed by that of their deviations."""
        spread = [any(isinstance(row[place], Mean) for row in self.rows) for place in range(len(self.header))]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        titles = [
            self.header[0],
            *(f"{name}, {self.unit}" if self.unit else name for name in self.header[1:]),
        ]
        named = zip(titles, spread, strict=True)
        writer.writerow(
            [part for name, two in named for part in ((name, f"{name} (std)") if two else (name,))]
        )
        for row in self.rows:
            fields: list[str] = []
            for cell, two in zip(row, spread, strict=True):
                parts = cell if isinstance(cell, Mean) else (cell, "")
                fields += [
                    repr(float(part)) if isinstance(part, float | int) else part for part in parts[: 1 + two]
                ]
            writer.writerow(fields)
        return text.getvalue()

    def latex(self) -> str:
        """Return it as a LaTeX tabular; the preamble needs booktabs."""
        from airmoe.report.drawing import latex_text  # it brings Matplotlib along

        columns = "l" + "r" * (len(self.header) - 1)
        cells = [self.header, *([cell_text(cell) for cell in row] for row in self.rows)]
        head, *body = [" & ".join(latex_text(_minus(cell)) for cell in row) + r" \\" for row in cells]
        over = []
        if self.unit:  # one title over all columns that have this unit
            width, title = len(self.header) - 1, latex_text(self.heading)
            over = [rf"& \multicolumn{{{width}}}{{c}}{{{title}}} \\", rf"\cmidrule(lr){{2-{width + 1}}}"]
        return "\n".join(
            [
                f"% {self.heading}; the preamble needs \\usepackage{{booktabs}}",
                *self._too_wide(),
                rf"\begin{{tabular}}{{{columns}}}",
                *(r"\toprule", *over, head, r"\midrule", *body, r"\bottomrule"),
                r"\end{tabular}",
                "",
            ]
        )

    def _too_wide(self) -> Iterator[str]:
        """Yield a comment for LaTeX where a table is wider than a column."""
        cells = [self.header, *([cell_text(cell) for cell in row] for row in self.rows)]
        first, *others = [max(map(len, column)) for column in zip(*cells, strict=True)]
        widths = [LETTER_PT * letters + BETWEEN_PT for letters in others]
        title = LETTER_PT * len(self.heading) + BETWEEN_PT if self.unit else 0
        about = LETTER_PT * first + BETWEEN_PT + max(sum(widths), title)
        if about > PAGE_PT:
            than = f"a page ({PAGE_PT} pt): it needs table* and smaller type"
        elif about > COLUMN_PT:
            than = f"a column ({COLUMN_PT} pt): it needs table*"
        else:
            return
        yield f"% About {round(about, -1)} pt wide, more than {than}."

    def rich(self, *, light: bool = False) -> ScreenTable:
        """Return it for the terminal; ``light`` is without lines between columns."""
        rows = [[cell_text(cell) for cell in row] for row in self.rows]
        return ScreenTable(self.heading, self.header, rows, light)


def _minus(text: str) -> str:
    return re.sub(r"(?<![\w.])-(?=\d)", "\N{MINUS SIGN}", text)


def cell_text(cell: Cell) -> str:
    """Return a cell as text: a number with three significant digits, a mean with its deviation."""
    if isinstance(cell, Mean):
        return with_spread(*cell)
    return cell if isinstance(cell, str) else three_digits(cell)


def deviation_of(values: Sequence[float]) -> float:
    """Return the standard deviation over repeats; 0 of one, and of several that differ by rounding alone."""
    if len(values) < 2:
        return 0.0
    deviation = float(np.std(values, ddof=1))
    return 0.0 if deviation <= ROUNDING * float(np.max(np.abs(values))) else deviation


def with_spread(mean: float, deviation: float) -> str:
    """Return mean and deviation with as many decimals as three significant digits of the larger have."""
    largest = max(abs(mean), abs(deviation))
    if deviation <= ROUNDING * abs(mean):
        return three_digits(mean)
    if not math.isfinite(largest) or not 1e-4 <= largest < 1e6:
        return f"{mean:.1e} ± {deviation:.1e}"
    digits = max(0, 2 - math.floor(math.log10(largest)))
    return f"{mean:,.{digits}f} ± {deviation:,.{digits}f}"


def three_digits(value: float) -> str:
    """Return a number with three significant digits, without an exponent where that is short."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if not 1e-4 <= abs(value) < 1e6:
        return f"{value:.1e}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"
