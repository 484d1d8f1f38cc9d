"""The comparison of policies on a finished run: a table for the screen, and a folder of tables and figures.

evaluation.csv  a row per links, policy and seed    tables.md  table.tex  evaluation.svg
"""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from rich import box
from rich.table import Table

from airmoe.errors import InvalidInputError
from airmoe.report.panels import Line, Panel, draw_panels
from airmoe.report.tables import or_dash
from airmoe.runs.comparison import Comparison, Measured, by_policy
from airmoe.runs.evaluated_links import OWN
from airmoe.studies.demo.folder import new_run_folder


@dataclass(frozen=True)
class _Column:
    """A column: its title, the figure of a row (None if there is none), and the format of mean and spread."""

    title: str
    figure: Callable[[Measured], float | None]
    form: str
    spread: bool = False

    def cell(self, rows: Sequence[Measured], between: str = "±") -> str:
        """Return the mean over seeds, and the standard deviation if the column shows it."""
        values = [value for row in rows if (value := self.figure(row)) is not None]
        mean = or_dash(self.form, float(np.mean(values)) if values else None)
        if not self.spread or len(values) < 2:
            return mean
        return f"{mean}{between}{self.form.format(float(np.std(values, ddof=1)))}"


COLUMNS = (
    _Column("F1", lambda row: row.macro_f1, "{:.3f}", spread=True),
    _Column("right %", lambda row: 100 * row.accuracy, "{:.1f}", spread=True),
    _Column("µJ", lambda row: None if row.energy_j is None else 1e6 * row.energy_j, "{:.3g}", spread=True),
    _Column("bytes", lambda row: row.bytes, "{:,.0f}"),
    _Column("experts", lambda row: row.experts, "{:.2f}"),
    _Column("degraded", lambda row: row.degraded, "{:.1%}"),
)
"""The columns of the screen; µJ and bytes are per query of one image."""

ALL_COLUMNS = (
    *COLUMNS[:3],
    _Column("ms on the air", lambda row: None if row.airtime_s is None else 1e3 * row.airtime_s, "{:.3g}"),
    *COLUMNS[3:],
)


def comparison_tables(found: Comparison) -> list[Table]:
    """Return a table for each links, for a terminal of 80 columns."""
    tables = []
    for title, groups in _by_links(found):
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("policy")
        for column in COLUMNS:
            table.add_column(column.title, justify="right")
        for rows in groups:
            table.add_row(rows[0].policy, *(column.cell(rows) for column in COLUMNS))
        tables.append(table)
    return tables


def left_out(found: Comparison) -> list[str]:
    """Return a line for each policy that there cannot be."""
    return [f"{each.policy} over {each.links} links: left out, {each.reason}" for each in found.impossible]


def write_comparison(found: Comparison, out: Path, command: str) -> None:
    """Write tables and figure into a new folder.

    Args:
        found: what was measured.
        out: the folder to make.
        command: what made it, for the head of ``tables.md``.

    Raises:
        InvalidInputError: ``out`` exists.
    """
    if out.exists():
        raise InvalidInputError("out", str(out), "a folder that does not exist yet")
    with new_run_folder(out) as folder:
        folder.mkdir()
        for name, text in {
            "evaluation.csv": comparison_csv(found),
            "tables.md": _markdown(found, command),
            "table.tex": _latex(found),
            "evaluation.svg": _figure(found),
        }.items():
            (folder / name).write_text(text, encoding="utf-8")


def comparison_csv(found: Comparison) -> str:
    """Return a row per links, policy and seed; a figure that there is not is an empty field."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Measured)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in found.rows)
    return text.getvalue()


def _by_links(found: Comparison) -> list[tuple[str, list[list[Measured]]]]:
    titled = dict[str, list[list[Measured]]]()
    for rows in by_policy(found.rows):
        first = rows[0]
        called = "the run's" if first.links == OWN else first.links
        over = f"{called} links" + f", {first.transmission}" * bool(first.transmission)
        plural = "s" * (len(rows) > 1)
        titled.setdefault(f"{over}: mean ± deviation over {len(rows)} seed{plural}", []).append(rows)
    return list(titled.items())


def _markdown(found: Comparison, command: str) -> str:
    pages = [
        f"# Policies side by side\n\nMade by `{command}`. µJ, bytes and ms are per query of one image.\n"
    ]
    for title, groups in _by_links(found):
        head = ["policy", *(column.title for column in ALL_COLUMNS)]
        lines = [head, ["---", *("---:" for _ in ALL_COLUMNS)]]
        lines += [
            [f"`{rows[0].policy}`", *(column.cell(rows, " ± ") for column in ALL_COLUMNS)] for rows in groups
        ]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        pages.append(f"## {title}\n\n{table}\n")
    return "\n".join([*pages, *(f"* {line}" for line in left_out(found)), ""])


def _latex(found: Comparison) -> str:
    """Return all tables as one tabular of booktabs."""
    head = " & ".join(["policy", *(_escaped(column.title) for column in ALL_COLUMNS)])
    lines = [
        "% needs \\usepackage{booktabs}",
        f"\\begin{{tabular}}{{l{'r' * len(ALL_COLUMNS)}}}",
        "\\toprule",
        f"{head} \\\\",
    ]
    for title, groups in _by_links(found):
        lines += [
            "\\midrule",
            f"\\multicolumn{{{len(ALL_COLUMNS) + 1}}}{{l}}{{{_escaped(title)}}} \\\\",
            "\\midrule",
        ]
        for rows in groups:
            cells = [rows[0].policy, *(column.cell(rows) for column in ALL_COLUMNS)]
            lines.append(f"{' & '.join(map(_escaped, cells))} \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""])


def _escaped(text: str) -> str:
    for special in "\\&%_#":
        text = text.replace(special, f"\\{special}" if special != "\\" else "\\textbackslash ")
    return text.replace("±", "$\\pm$").replace("µ", "$\\mu$")


def _figure(found: Comparison) -> str:
    """Return macro-F1 against energy, a panel for each links; over perfect links, against experts asked."""
    panels = []
    for title, groups in _by_links(found):
        on_air = all(row.energy_j is not None for rows in groups for row in rows)
        cost = COLUMNS[2].figure if on_air else (lambda row: row.experts)
        drawn = []
        for rows in groups:
            x, y = ([float(read(row) or 0.0) for row in rows] for read in (cost, COLUMNS[0].figure))
            drawn.append(
                Line(
                    rows[0].policy,
                    [float(np.mean(x))],
                    [float(np.mean(y))],
                    [_deviation(y)],
                    [_deviation(x)],
                    line=False,
                )
            )
        x_label = "energy of a query, µJ" if on_air else "experts asked per query"
        panels.append(Panel(title.partition(":")[0], x_label, "macro-F1", drawn))
    return draw_panels(panels)


def _deviation(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
