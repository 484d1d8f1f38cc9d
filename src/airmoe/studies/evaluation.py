"""The comparison of policies on a finished run: a table for the screen, and a folder of tables and figures.

evaluation.csv  a row per links, policy and seed    tables.md
tables/LINKS.csv .tex                               figures/policies.svg .pdf .pgf .csv .py
run.json        what made it                        plugins/FILE.py
"""

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np

from airmoe.newfolder import PROVENANCE, refuse_taken
from airmoe.plugins import keep_plugins
from airmoe.report.drawing import Drawing, Line, Panel
from airmoe.report.style import looks_of
from airmoe.report.table import Cell, Mean, Table, deviation_of, three_digits
from airmoe.report.terminal import ScreenTable
from airmoe.report.writing import write_figures, write_tables
from airmoe.runs.comparison import ENSEMBLE, Comparison, Measured, by_policy
from airmoe.runs.evaluated_links import OWN
from airmoe.runs.run_writing import circumstances
from airmoe.studies.demo.folder import new_run_folder

Figure = Callable[[Measured], float | None]


def _microjoules(row: Measured) -> float | None:
    return None if row.energy_j is None else 1e6 * row.energy_j


@dataclass(frozen=True)
class _Column:
    """A column: its title, the figure of a row, None where there is none, and whether its spread is shown."""

    title: str
    figure: Figure
    spread: bool = True

    def cell(self, rows: Sequence[Measured]) -> Cell:
        """Return the mean over seeds, and the standard deviation."""
        values = [value for row in rows if (value := self.figure(row)) is not None]
        if not values:
            return ""
        return Mean(float(np.mean(values)), deviation_of(values)) if self.spread else float(np.mean(values))


F1 = _Column("macro-F1", lambda row: row.macro_f1)
ACCURACY = _Column("accuracy, %", lambda row: 100 * row.accuracy)
ENERGY, BYTES = _Column("µJ", _microjoules), _Column("bytes", lambda row: row.bytes, spread=False)
AIRTIME = _Column("ms on the air", lambda row: None if row.airtime_s is None else 1e3 * row.airtime_s)
EXPERTS = _Column("experts", lambda row: row.experts, spread=False)
DEGRADED = _Column("degraded, %", lambda row: 100 * row.degraded, spread=False)

ALL_COLUMNS = F1, ACCURACY, ENERGY, AIRTIME, BYTES, EXPERTS, DEGRADED
ON_SCREEN = F1, replace(ACCURACY, spread=False), ENERGY, BYTES, EXPERTS, DEGRADED
"""The columns that a terminal of 80 columns shows. µJ, bytes and ms are per query of one image."""


def comparison_on_screen(found: Comparison) -> list[ScreenTable]:
    """Return a table for each links, for a terminal; 80 columns show all of it."""
    return [table.rich(light=True) for table in comparison_tables(found, ON_SCREEN)]


def comparison_tables(found: Comparison, columns: Sequence[_Column] = ALL_COLUMNS) -> list[Table]:
    """Return a table for each links: means and standard deviations over seeds."""
    tables = []
    for number, (title, groups) in enumerate(_by_links(found)):
        name = re.sub(r"[^A-Za-z0-9.-]+", "-", groups[0][0].links)[:60].strip("-.")
        header = ["policy", *(column.title for column in columns)]
        cells = [[rows[0].policy, *(column.cell(rows) for column in columns)] for rows in groups]
        tables.append(Table(f"{number + 1}-{name}", title, header, cells))
    return tables


def remarks(found: Comparison) -> list[str]:
    """Return a line for each policy that there cannot be, or that asks nobody, only the own expert or all."""
    none = [
        (rows[0], float(np.mean([row.chose_none for row in rows])))
        for rows in by_policy(found.rows)
        if any(row.chose_none for row in rows)
    ]
    return [
        *(f"{each.policy} over {each.links} links: left out, {each.reason}" for each in found.impossible),
        *(
            f"{row.policy} over {row.links} links: chose no expert for {three_digits(100 * share)} % of the "
            "queries; the asker's own answered"
            for row, share in none
        ),
        *(
            f"{rows[0].policy} over {rows[0].links} links: every client asks its own expert only, as in "
            "local; that one needs no link, counts as 30 dB and costs nothing"
            for rows in by_policy(found.rows)
            if rows[0].policy != "local" and all(row.local_share == 1 and row.chose_none < 1 for row in rows)
        ),
        *(
            f"{rows[0].policy} over {rows[0].links} links: every query asks all experts, as in all"
            for rows in by_policy(found.rows)
            if rows[0].policy not in ("all", ENSEMBLE) and _asks_all(rows, found)
        ),
    ]


def _asks_all(rows: Sequence[Measured], found: Comparison) -> bool:
    """Return whether a policy asks more than the own expert, and as many as ``all`` over the same links."""
    most = {(row.links, row.seed): row.experts for row in found.rows if row.policy == "all"}
    return all(row.local_share < 1 and row.experts == most.get((row.links, row.seed)) for row in rows)


def write_comparison(found: Comparison, out: Path, command: str, model_hash: str) -> None:
    """Write tables and figures into a new folder, with a record of what made them and the loaded plugins.

    Args:
        found: what was measured.
        out: the folder to make.
        command: what made it, for the head of ``tables.md``.
        model_hash: of the run that was evaluated, for ``run.json``.

    Raises:
        InvalidInputError: ``out`` exists.
    """
    refuse_taken(out)
    tables = comparison_tables(found)
    head = f"# Policies side by side\n\nMade by `{command}`. µJ, bytes and ms are per query of one image.\n"
    pages = [head, *(table.markdown() for table in tables), *(f"* {line}" for line in remarks(found)), ""]
    with new_run_folder(out) as folder:
        folder.mkdir()
        (folder / "evaluation.csv").write_text(comparison_csv(found), encoding="utf-8")
        (folder / "tables.md").write_text("\n".join(pages), encoding="utf-8")
        record = {"model_hash": model_hash, **circumstances()}
        (folder / PROVENANCE).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        keep_plugins(folder)
        write_tables(tables, folder)
        write_figures({"policies": comparison_drawing(found)}, folder)


def comparison_csv(found: Comparison) -> str:
    """Return a row per links, policy and seed; a figure that there is not is an empty field."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Measured)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in found.rows)
    return text.getvalue()


def comparison_drawing(found: Comparison) -> Drawing:
    """Return macro-F1 against energy, a panel for each links; over perfect links, against experts asked."""
    policies = list(dict.fromkeys(row.policy for row in found.rows))
    found_looks = looks_of([name.partition(":")[0] for name in policies])
    looks = {name: replace(look, dash="") for name, look in zip(policies, found_looks, strict=True)}
    panels = []
    for title, groups in _by_links(found):
        on_air = all(row.energy_j is not None for rows in groups for row in rows)
        cost: Figure = _microjoules if on_air else EXPERTS.figure
        drawn = []
        for rows in groups:
            x, y = ([read(row) or 0.0 for row in rows] for read in (cost, F1.figure))
            points = ([float(np.mean(x))], [float(np.mean(y))], [deviation_of(y)], [deviation_of(x)])
            drawn.append(Line(rows[0].policy, *points, look=looks[rows[0].policy]))
        x_label = "energy per query, µJ" if on_air else "experts asked per query"
        panels.append(Panel(title.rpartition(": means over")[0], x_label, F1.title, drawn))
    return Drawing(panels, columns=min(len(panels), 2))


def _by_links(found: Comparison) -> list[tuple[str, list[list[Measured]]]]:
    titled = dict[str, list[list[Measured]]]()
    for rows in by_policy(found.rows):
        first = rows[0]
        called = "the run's" if first.links == OWN else first.links
        over = f"{called} links" + f", {first.transmission}" * bool(first.transmission)
        titled.setdefault(f"{over}: means over {len(rows)} seed{'s' * (len(rows) > 1)}", []).append(rows)
    return list(titled.items())
