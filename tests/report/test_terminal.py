"""Tables on narrow terminals: every figure is there, whole."""

import io
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from airmoe.report import DemoResults, analog_table, methods_table
from airmoe.report.table import Mean, Table
from airmoe.report.terminal import ScreenTable
from airmoe.studies.evaluation import ALL_COLUMNS, comparison_tables
from tests.studies.test_evaluation import FOUND

WIDTHS = 40, 60, 80, 200
HEADER = "policy", "macro-F1", "accuracy, %", "µJ", "ms on the air", "degraded, %"
ROWS = (
    ("topk:2", "0.953 ± 0.002", "95.3 ± 0.2", "12.3 ± 4.5", "1,234", "-"),
    ("a policy with a long name", "0.1", "", "123,456.7 ± 0.1", "1", "5"),
)


def printed(table: ScreenTable, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def refuse_cut(table: ScreenTable, width: int) -> None:
    lines = printed(table, width)
    assert max(map(len, lines)) <= width
    assert "…" not in "".join(lines)
    figures = [cell for row in table.rows for cell in row[1:]]
    for figure in figures:
        assert any(figure in line for line in lines), figure
    words = " ".join(" ".join(lines).split())
    for row in table.rows:
        assert all(word in words for word in row[0].split())


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("light", [False, True])
def test_no_figure_is_cut(width: int, light: bool) -> None:
    refuse_cut(ScreenTable("what it shows", HEADER, ROWS, light), width)


@pytest.mark.parametrize("width", WIDTHS)
def test_no_figure_of_the_tables_of_a_demonstration_is_cut(
    results: DemoResults, analog_results: DemoResults, width: int
) -> None:
    assert analog_results.analog is not None
    for table in (methods_table(results), analog_table(analog_results.analog)):
        refuse_cut(table, width)


@pytest.mark.parametrize("width", WIDTHS)
def test_no_figure_of_a_comparison_is_cut(width: int) -> None:
    for table in comparison_tables(FOUND, ALL_COLUMNS):
        refuse_cut(table.rich(light=True), width)
        refuse_cut(table.rich(), width)


@given(
    st.lists(st.lists(st.floats(0, 1e9), min_size=5, max_size=5), min_size=1, max_size=4),
    st.sampled_from(WIDTHS),
)
def test_no_figure_is_cut_whatever_it_is(figures: Sequence[Sequence[float]], width: int) -> None:
    rows = [["a method", *(Mean(figure, figure / 7) for figure in row)] for row in figures]
    refuse_cut(Table("made-up", "Made up", HEADER, rows).rich(), width)


def test_a_wide_terminal_shows_a_table_as_it_is() -> None:
    head = printed(ScreenTable("t", HEADER, ROWS), 200)[2]
    assert all(title in head for title in HEADER)


def test_a_row_becomes_lines_where_the_table_does_not_fit() -> None:
    assert printed(ScreenTable("what it shows", HEADER, ROWS[:1]), 40) == [
        "what it shows",
        "topk:2",
        "  macro-F1 0.953 ± 0.002,",
        "  accuracy, % 95.3 ± 0.2, µJ 12.3 ± 4.5,",
        "  ms on the air 1,234, degraded, % -",
    ]
