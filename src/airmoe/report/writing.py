"""Writing of figures and tables into a run folder.

figures/NAME.svg .pdf .pgf   the figure
figures/NAME.csv NAME.py     its points, and the script that redraws it with drawing/ beside it
tables/NAME.csv .tex         the table
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from airmoe.files import replaced_file
from airmoe.report.drawing import Drawing, drawn, package_files, points_csv, redraw_script
from airmoe.report.table import Table


def write_figures(drawings: Mapping[str, Drawing], run_folder: Path) -> dict[str, dict[str, bytes]]:
    """Write every format of each drawing, by name, with its points and its script; return name and format."""
    folder = run_folder / "figures"
    for path in package_files():
        _write(folder / "drawing" / path.name, path.read_bytes())
    files_of = {name: drawn(drawing) for name, drawing in drawings.items()}
    for name, drawing in drawings.items():
        for format_, content in files_of[name].items():
            _write(folder / f"{name}.{format_}", content)
        _write(folder / f"{name}.csv", points_csv(drawing).encode())
        _write(folder / f"{name}.py", redraw_script(drawing, name).encode())
    return files_of


def write_tables(tables: Iterable[Table], run_folder: Path) -> None:
    """Write each table as CSV and as LaTeX."""
    for table in tables:
        _write(run_folder / "tables" / f"{table.name}.csv", table.csv().encode())
        _write(run_folder / "tables" / f"{table.name}.tex", table.latex().encode())


def _write(path: Path, content: bytes) -> None:
    with replaced_file(path) as temporary:
        temporary.write_bytes(content)
