"""A table on a terminal of any width: what does not fit is printed in lines, and no figure is cut."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text


@dataclass(frozen=True)
class ScreenTable:
    """A table for Rich to print. The first column says what a row is about; the others are figures.

    A table that is too wide gets titles of several lines and a first column that wraps. If it is still too
    wide, each row becomes lines of "title figure".

    Attributes:
        title: what stands above.
        header: title of each column.
        rows: texts, one per column.
        light: without lines between columns, which takes less room.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    light: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the widest form that fits."""
        for table in (self._table(self.header), self._table(self._narrow_header(), wraps=True)):
            if Measurement.get(console, options.update_width(10_000), table).minimum <= options.max_width:
                yield table
                return
        yield self.title
        for first, *figures in self.rows:
            yield Text(first, overflow="fold")
            told = [f"{title} {figure}" for title, figure in zip(self.header[1:], figures, strict=True)]
            yield from (Text(f"  {line}", overflow="fold") for line in _lines(told, options.max_width - 2))

    def _table(self, header: Sequence[str], *, wraps: bool = False) -> RichTable:
        form = {"box": box.SIMPLE_HEAD, "pad_edge": False} if self.light else {}
        table = RichTable(title=self.title, title_justify="left", **form)  # type: ignore[arg-type]
        for place, (title, cells) in enumerate(zip(header, zip(*self.rows, strict=True), strict=True)):
            whole = None if wraps and not place else max(map(cell_len, (*title.split("\n"), *cells)))
            table.add_column(
                title, justify="right" if place else "left", min_width=whole, no_wrap=bool(whole)
            )
        for row in self.rows:
            table.add_row(*row)
        return table

    def _narrow_header(self) -> list[str]:
        """Return titles that are no wider than what stands below, or than their longest word."""
        widths = [max((1, *map(cell_len, cells))) for cells in zip(*self.rows, strict=True)]
        return [
            "\n".join(textwrap.wrap(title, width, break_long_words=False)) if place else title
            for place, (title, width) in enumerate(zip(self.header, widths, strict=True))
        ]


def _lines(parts: Sequence[str], width: int) -> list[str]:
    """Return the parts with commas between them, as many on each line as fit."""
    lines = [""]
    for part in parts:
        joined = f"{lines[-1]}, {part}" if lines[-1] else part
        if lines[-1] and cell_len(joined) >= width:
            lines[-1] += ","
            lines.append(part)
        else:
            lines[-1] = joined
    return lines
