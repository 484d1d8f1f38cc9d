"""The files of a figure: SVG, PDF, PGF, its points as CSV, and the script that redraws it.

Equal drawings give equal bytes: no date, no path, no metrics of a TeX installation.
"""

import csv
import io
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_pgf import RendererPgf
from matplotlib.cbook import is_math_text
from matplotlib.figure import Figure
from matplotlib.mathtext import MathTextParser

from .layout import draw, measure
from .parts import STYLE, Drawing

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


def with_points(drawing: Drawing, text: str) -> Drawing:
    """Return a drawing with the points of a CSV that `points_csv` wrote."""
    points: dict[tuple[int, int], list[list[float | None]]] = {}
    for row in csv.DictReader(io.StringIO(text)):
        values = [float(row[name]) if row[name] else None for name in COLUMNS]
        points.setdefault((int(row["panel"]), int(row["curve"])), []).append(values)

    def filled(panel: int, curve: int, line: Any) -> Any:
        columns = list(zip(*points.get((panel, curve), []), strict=True)) or [()] * len(COLUMNS)
        return replace(
            line,
            **{
                name: None if name.endswith("spread") and None in (column or (None,)) else list(column)
                for name, column in zip(COLUMNS, columns, strict=True)
            },
        )

    panels = [
        replace(of_panel, curves=[filled(panel, curve, line) for curve, line in enumerate(of_panel.curves)])
        for panel, of_panel in enumerate(drawing.panels)
    ]
    return replace(drawing, panels=panels)


def redraw_script(drawing: Drawing, name: str) -> str:
    """Return the script that redraws a drawing from its CSV; it needs Matplotlib and `package_files`."""
    return f'''"""Redraws {name} from {name}.csv: python {name}.py [svg] [pdf] [pgf]

Without a format it writes all three. It needs Matplotlib, and the folder drawing/ beside it.
Change labels, colours and sizes here.
"""

from pathlib import Path

from drawing import Drawing, Grid, Line, Look, Network, Panel, redraw

DRAWING = {_source(drawing)}

if __name__ == "__main__":
    redraw(DRAWING, Path(__file__))
'''


def redraw(drawing: Drawing, script: Path) -> None:
    """Write a drawing beside its script, in the formats that the command line names."""
    filled = with_points(drawing, script.with_suffix(".csv").read_text(encoding="utf-8"))
    for format_, content in drawn(filled, sys.argv[1:] or FORMATS).items():
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
