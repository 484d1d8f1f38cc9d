"""The table of methods, in the terminal and in the page."""

import io
import re
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from airmoe.report import DemoResults, analog_table, equal_f1_text, methods_table
from airmoe.report.demo_tables import analog_html, methods_html
from airmoe.report.terminal import ScreenTable
from tests.report.conftest import edited


def printed(
    results: DemoResults, width: int, table: Callable[[DemoResults], ScreenTable] = methods_table
) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(table(results))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def table_over_analog_links(results: DemoResults) -> ScreenTable:
    assert results.analog is not None
    return analog_table(results.analog)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_a_row_shows_the_figures_of_its_method(results: DemoResults) -> None:
    rows = [cells(line) for line in printed(results, 120) if line.startswith("│")]
    assert rows[0] == ["networked MoE, top-1", "0.951", "21%", "1,392", "17.9", "1.97", "9.85", "0.5%"]


def test_there_is_a_row_per_method_in_the_order_of_the_results(results: DemoResults) -> None:
    rows = [cells(line)[0] for line in printed(results, 120) if line.startswith("│")]
    assert rows == [method.label for method in results.methods]


def test_what_was_not_measured_is_a_dash(results: DemoResults) -> None:
    (row,) = [cells(line) for line in printed(results, 120) if "one FedAvg network" in line]
    assert row[5:7] == ["-", "-"]


def test_the_table_fits_a_terminal_of_80_columns_and_loses_no_figure(results: DemoResults) -> None:
    lines = printed(results, 80)
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines)
    for figure in ("0.951", "2,784", "90.0"):
        assert sum(figure in line for line in lines) == 1


def test_the_units_are_in_the_head(results: DemoResults) -> None:
    head = "".join(printed(results, 120)[:3])
    for title in ("macro-F1", "bytes", "µJ", "p50 ms", "p99 ms"):
        assert title in head


def test_the_table_of_the_page_says_where_each_method_was_measured(results: DemoResults) -> None:
    html = methods_html(results)
    assert html.count("<tr") == 1 + len(results.methods)
    assert html.count(">mesh</td>") == 7
    assert html.count(">simulation</td>") == 2


def test_the_page_marks_the_rows_of_the_networked_mixture(results: DemoResults) -> None:
    html = methods_html(results)
    assert (
        html.count('class="networked"><th role="rowheader" scope="row">networked MoE, ')
        == html.count('class="networked"')
        == 4
    )


@pytest.mark.parametrize("name", ["<b>bold</b>", "a & b"])
def test_names_are_text_and_never_markup(results: DemoResults, name: str) -> None:
    def rename(content: dict[str, Any]) -> None:
        content["methods"][0]["label"] = name

    assert name not in methods_html(edited(results, rename))


def test_what_jesa_spends_at_equal_f1_is_told_for_each_k(results: DemoResults) -> None:
    told = equal_f1_text(results)
    assert (
        "at the macro-F1 of top-1 (0.951) JESA (importance 0.3, 0.950) spends 19.0 instead of 25.0 µJ" in told
    )
    assert told.endswith("; at none of its importance factors JESA reaches the macro-F1 of top-2.")


def test_over_analog_links_a_row_shows_what_its_method_reached_and_used(
    analog_results: DemoResults,
) -> None:
    lines = printed(analog_results, 80, table_over_analog_links)
    assert lines[0].strip() == "over analog links, -5 dB on average, the same for each"
    rows = [cells(line) for line in lines if line.startswith("│")]
    assert rows[1] == ["channel-aware, top-1", "0.912", "43%", "22%", "-4.1", "1.32", "0.909"]
    assert rows[2] == ["best link", "0.235", "100%", "50%", "-", "0.00", "0.236"]
    assert rows[3] == ["ideal links, top-1", "0.951", "21%", "10%", "-", "-", "-"]


def test_over_analog_links_the_page_shows_the_same_rows(analog_results: DemoResults) -> None:
    assert analog_results.analog is not None
    html = analog_html(analog_results.analog)
    assert html.count("<tr ") == 5
    cells = re.findall(r">([^<>]+)</t[dh]>", html)
    assert cells[7:13] == [
        "naive, top-1",
        "0.871",
        "26%",
        "13%",
        "-7.4",
        "1.72",
    ]
