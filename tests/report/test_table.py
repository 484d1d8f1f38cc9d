"""Tables: Markdown for the page, CSV with every digit, LaTeX that is escaped and names its units."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from airmoe.report.drawing import latex_text
from airmoe.report.table import Mean, Table, deviation_of
from airmoe.report.writing import write_tables

ENERGY = Table(
    "energy",
    "Energy",
    ["gamma_0", "JESA & co", "top-2"],
    [["-0.5", Mean(1.23456789, 0.1), 2.5], ["50 %", "", Mean(3.0, 0.0)]],
    unit="mJ",
    note="Over the air.",
)


def test_markdown_has_title_unit_and_note() -> None:
    assert ENERGY.markdown().splitlines() == [
        "Energy, mJ:",
        "",
        "| gamma_0 | JESA & co | top-2 |",
        "| --- | ---: | ---: |",
        "| -0.5 | 1.23 ± 0.10 | 2.50 |",
        "| 50 % |  | 3.00 |",
        "",
        "Over the air.",
    ]


def test_csv_keeps_every_digit_and_gives_deviations_a_column() -> None:
    assert list(csv.reader(io.StringIO(ENERGY.csv()))) == [
        ["gamma_0", "JESA & co, mJ", "JESA & co, mJ (std)", "top-2, mJ", "top-2, mJ (std)"],
        ["-0.5", "1.23456789", "0.1", "2.5", ""],
        ["50 %", "", "", "3.0", "0.0"],
    ]


def test_latex_has_rules_of_booktabs_units_over_the_columns_and_is_escaped() -> None:
    assert ENERGY.latex().splitlines()[1:] == [
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r"& \multicolumn{2}{c}{Energy, mJ} \\",
        r"\cmidrule(lr){2-3}",
        r"gamma\_0 & JESA \& co & top-2 \\",
        r"\midrule",
        r"\ensuremath{-}0.5 & 1.23 \ensuremath{\pm} 0.10 & 2.50 \\",
        r"50 \% &  & 3.00 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (2, None),
        (4, "% About 310 pt wide, more than a column (252 pt): it needs table*."),
        (8, "% About 560 pt wide, more than a page (516 pt): it needs table* and smaller type."),
    ],
)
def test_latex_says_where_a_table_is_wider_than_a_column_or_a_page(columns: int, said: str | None) -> None:
    table = Table("wide", "Wide", ["policy", *["ten letter"] * columns], [["p" * 10, *[1.0] * columns]])
    lines = table.latex().splitlines()
    assert lines[1] == (said or r"\begin{tabular}{lrr}")


def test_a_title_over_the_columns_counts_where_it_is_wider_than_they_are() -> None:
    long = Table(
        "long", "A title of forty-five letters and of a unit too", ["M", "a"], [["1", 2.0]], unit="mJ"
    )
    assert "needs table*" in long.latex()


@given(st.text(alphabet="ab &%$#_{}~^\\<>±µ-5", max_size=20))
def test_no_letter_that_means_something_to_latex_is_left_bare(text: str) -> None:
    escaped = latex_text(text)
    bare = escaped
    for word in (
        *(r"\textbackslash{}", r"\textasciitilde{}", r"\textasciicircum{}"),
        *(r"\ensuremath{\pm}", r"\ensuremath{\mu}", r"\ensuremath{<}"),
        *(r"\ensuremath{>}", r"\&", r"\%", r"\$", r"\#", r"\_", r"\{", r"\}"),
    ):
        bare = bare.replace(word, "")
    assert not set(bare) & set("&%$#_{}~^\\<>±µ")
    assert latex_text("plain text") == "plain text"


@pytest.mark.parametrize("suffix", ["csv", "tex"])
def test_each_table_is_a_file(tmp_path: Path, suffix: str) -> None:
    write_tables([ENERGY], tmp_path)
    expected = ENERGY.csv() if suffix == "csv" else ENERGY.latex()
    assert (tmp_path / "tables" / f"energy.{suffix}").read_text(encoding="utf-8") == expected


@pytest.mark.parametrize(
    ("values", "deviation"),
    [
        ([0.7], 0.0),
        ([0.9, 0.9000000000000001, 0.8999999999999999], 0.0),
        ([-0.9, -0.9000000000000001], 0.0),
        ([0.0, 0.0], 0.0),
        ([0.0, 1e-15], 7.0710678e-16),
        ([1.0, 3.0], 1.41421356),
    ],
)
def test_repeats_that_differ_by_rounding_alone_have_no_deviation(
    values: list[float], deviation: float
) -> None:
    assert deviation_of(values) == pytest.approx(deviation, rel=1e-6, abs=0)


def test_the_terminal_shows_the_same_cells() -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(ENERGY.rich())
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    for words in ("Energy, mJ", "JESA & co", "1.23 ± 0.10"):
        assert words in shown
