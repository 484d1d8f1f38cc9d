"""The files of a figure: SVG, PDF, PGF, its points as CSV, and the script that redraws it.

Equal drawings give equal bytes: no date, no path, no metrics of a TeX installation.
"""

import csv
import io
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_pgf import RendererPgf
from matplotlib.cbook import is_math_text
from matplotlib.figure import Figure
from matplotlib.mathtext import MathTextParser

from .layout import draw, measure
from .parts import STYLE, Drawing, Grid, Line, Network, Panel

FORMATS = ("svg", "pdf", "pgf")
KEYS = ("panel", "curve")
COLUMNS = ("x", "y", "y_spread", "x_spread")

ESCAPES = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    **{"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}"},
    **{
        "±": "\\ensuremath{\\pm}",
        "\N{MULTIPLICATION SIGN}": "\\ensuremath{\\times}",
        "µ": "\\ensuremath{\\mu}",
    },
    **{"<": "\\ensuremath{<}", ">": "\\ensuremath{>}", "\N{MINUS SIGN}": "\\ensuremath{-}"},
}


def latex_text(text: str) -> str:
    """Return plain text as LaTeX shows it."""
    return "".join(ESCAPES.get(letter, letter) for letter in text)


def math_fault(text: str) -> str | None:
    """Return why the mathematics between the dollar signs of a text cannot be drawn; None if it can."""
    if is_math_text(text):
        try:
            MathTextParser("path").parse(text)
        except ValueError as error:
            return " ".join(str(error).split())
    return None


def drawn(drawing: Drawing, formats: Sequence[str] = FORMATS) -> dict[str, bytes]:
    """Return a drawing by format."""
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        figure = draw(drawing)
        return {name: _pgf(figure) if name == "pgf" else _saved(figure, name) for name in formats}


def _saved(figure: Figure, format_: str) -> bytes:
    buffer = io.BytesIO()
    undated = {"Date": None} if format_ == "svg" else {"CreationDate": None}
    figure.savefig(buffer, format=format_, metadata=undated)
    return buffer.getvalue()


class _PgfRenderer(RendererPgf):
    """Writes PGF without a TeX installation: texts are measured as in the other formats."""

    def __init__(self, figure: Figure, file: Any) -> None:
        super().__init__(figure, file)  # type: ignore[no-untyped-call]
        self._measure = measure(figure)

    def get_text_width_height_descent(self, s: str, prop: Any, ismath: Any) -> tuple[float, float, float]:
        """Return the size of a text in pixels."""
        size = self._measure.get_text_width_height_descent(s, prop, ismath)  # type: ignore[no-untyped-call]
        width, height, descent = size
        return width, height, descent

    def draw_text(
        self, gc: Any, x: Any, y: Any, s: str, prop: Any, angle: Any, ismath: Any = False, mtext: Any = None
    ) -> None:
        """Write a text; what is no mathematics is escaped."""
        parts = re.split(r"(?<!\\)\$", s) if ismath else [s]
        plain = [latex_text(part.replace("\\$", "$")) for part in parts]
        s = "$".join(part if place % 2 else plain[place] for place, part in enumerate(parts))
        super().draw_text(gc, x, y, s, prop, angle, ismath, mtext)  # type: ignore[no-untyped-call]


def _pgf(figure: Figure) -> bytes:
    text = io.StringIO()
    width, height = figure.get_size_inches()
    text.write("% \\input this file; the preamble needs \\usepackage{pgf}.\n")
    text.write("\\begingroup\n\\makeatletter\n\\providecommand\\mathdefault[1]{#1}\n\\begin{pgfpicture}\n")
    size = f"\\pgfqpoint{{{width:f}in}}{{{height:f}in}}"
    text.write(
        f"\\pgfpathrectangle{{\\pgfpointorigin}}{{{size}}}\n\\pgfusepath{{use as bounding box, clip}}\n"
    )
    figure.draw(_PgfRenderer(figure, text))
    text.write("\\end{pgfpicture}\n\\makeatother\n\\endgroup\n")
    return text.getvalue().encode()


def points_csv(drawing: Drawing) -> str:
    """Return the points of all curves as CSV: a row each, by the numbers of panel and curve."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*KEYS, "label", *COLUMNS))
    for panel, of_panel in enumerate(drawing.panels):
        for curve, line in enumerate(of_panel.curves):
            columns = [getattr(line, name) or [None] * len(line.x) for name in COLUMNS]
            for point in zip(*columns, strict=True):
                values = ("" if value is None else repr(float(value)) for value in point)
                writer.writerow((panel, curve, line.label, *values))
    return text.getvalue()


def with_rows(drawing: Drawing) -> Drawing:
    """Return a drawing whose curves name their rows of the CSV, wherever they are moved to."""
    panels = [
        replace(
            of_panel,
            curves=[
                replace(line, rows=(panel, curve)) if len(line.x) else line
                for curve, line in enumerate(of_panel.curves)
            ],
        )
        for panel, of_panel in enumerate(drawing.panels)
    ]
    return replace(drawing, panels=panels)


def with_points(drawing: Drawing, text: str) -> Drawing:
    """Return a drawing whose curves have the points of the rows that they name.

    Args:
        drawing: the drawing. A curve that names no rows keeps its points.
        text: a CSV that `points_csv` wrote.

    Raises:
        ValueError: there are no such rows, or the parts of a grid or of a network no longer fit each other.
    """
    points: dict[tuple[int, ...], list[list[float | None]]] = {}
    for row in csv.DictReader(io.StringIO(text)):
        values = [float(row[name]) if row[name] else None for name in COLUMNS]
        points.setdefault((int(row["panel"]), int(row["curve"])), []).append(values)
    panels = [
        replace(of_panel, curves=[_filled(line, points) if line.rows else line for line in of_panel.curves])
        for of_panel in drawing.panels
    ]
    for of_panel in panels:
        _refuse_what_does_not_fit(of_panel)
    return replace(drawing, panels=panels)


def _filled(line: Line, points: Mapping[tuple[int, ...], list[list[float | None]]]) -> Line:
    if tuple(line.rows) not in points:
        known = ", ".join(str(list(rows)) for rows in points)
        raise ValueError(
            f"{line.label!r}: rows is {list(line.rows)}; expected [panel, curve] of the CSV: {known}"
        )
    columns = dict(zip(COLUMNS, zip(*points[tuple(line.rows)], strict=True), strict=True))
    given: dict[str, Any] = {
        name: None if name.endswith("spread") and None in column else list(column)
        for name, column in columns.items()
    }
    return replace(line, **given)


def _refuse_what_does_not_fit(panel: Panel | Grid | Network) -> None:
    """Refuse cells without a column of their own, and nodes that are not where links look for them."""
    for place, line in enumerate(panel.curves):
        if isinstance(panel, Grid) and len(line.y) != len(panel.columns):
            raise ValueError(
                f"{line.label!r} has {len(line.y)} cells; expected {len(panel.columns)}, as columns"
            )
        moved = bool(line.rows) and line.rows[1] != place
        if isinstance(panel, Network) and (moved or max(line.x, default=0) >= len(panel.curves)):
            raise ValueError(
                "nodes were moved or deleted; expected all, in their order: links name them by it"
            )


def redraw_script(drawing: Drawing, name: str) -> str:
    """Return the script that redraws a drawing from its CSV; it needs Matplotlib and `package_files`."""
    return f'''"""Redraws {name} from {name}.csv: python {name}.py [svg] [pdf] [pgf]

Without a format it writes all three. It needs Matplotlib, and the folder drawing/ beside it.
Change labels, colours and sizes here; set x_range=[0, 1] or y_range of a Panel; delete or move a Line:
its rows, [panel, curve] of the CSV, say which points it has.
"""

from pathlib import Path

from drawing import Drawing, Grid, Line, Look, Network, Panel, redraw

DRAWING = {_source(with_rows(drawing))}

if __name__ == "__main__":
    redraw(DRAWING, Path(__file__))
'''


def redraw(drawing: Drawing, script: Path) -> None:
    """Write a drawing beside its script, in the formats that the command line names."""
    asked = sys.argv[1:] or FORMATS
    for name in asked:
        if name not in FORMATS:
            sys.exit(f"{script.name}: format is {name!r}; expected some of {', '.join(FORMATS)}")
    try:
        filled = with_points(drawing, script.with_suffix(".csv").read_text(encoding="utf-8"))
    except ValueError as error:
        sys.exit(f"{script.name}: {error}")
    for format_, content in drawn(filled, asked).items():
        script.with_suffix(f".{format_}").write_bytes(content)


def _source(value: Any, indent: int = 0) -> str:
    """Return Python source of a part of a drawing, without its points and what is left at its default."""
    if is_dataclass(value):
        named = [
            f"{field.name}={_source(getattr(value, field.name), indent + 4)}"
            for field in fields(value)
            if field.name not in COLUMNS and getattr(value, field.name) != field.default
        ]
        return f"{type(value).__name__}({_items(named, indent)})"
    if isinstance(value, list | tuple):
        items = _items([_source(item, indent + 4) for item in value], indent)
        return f"[{items}]"
    return (
        repr(float(value))
        if isinstance(value, float)
        else json.dumps(value, ensure_ascii=False)
        if isinstance(value, str)
        else repr(value)
    )


def _items(items: list[str], indent: int) -> str:
    if len(", ".join(items)) + indent < 90 and not any("\n" in item for item in items):
        return ", ".join(items)
    return "".join(f"\n{' ' * (indent + 4)}{item}," for item in items) + f"\n{' ' * indent}"


def package_files() -> Iterator[Path]:
    """Yield the files of this package."""
    yield from sorted(Path(__file__).parent.glob("*.py"))
