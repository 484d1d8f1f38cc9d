"""Drawings: equal numbers give equal bytes, a script redraws them, nothing is left out silently."""

import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airmoe.report.dark import DARK, dark_svg
from airmoe.report.drawing import (
    FORMATS,
    INK,
    STYLE,
    Drawing,
    Grid,
    Line,
    Network,
    Panel,
    draw,
    drawn,
    math_fault,
    points_csv,
    with_points,
    with_rows,
)
from airmoe.report.drawing.layout import balanced_columns
from airmoe.report.writing import write_figures
from tests.report.legibility import faults


def panel(curve: Line, **options: object) -> Panel:
    return Panel("title of it", "x of it", "y of it", [curve], **options)  # type: ignore[arg-type]


def svg(*panels: Panel | Grid | Network, columns: int = 0) -> str:
    return drawn(Drawing(panels, columns), ["svg"])["svg"].decode()


def paths(text: str) -> int:
    return text.count("<path") + text.count("<use")


LINE = Line("JESA", [1.0, 2.0, 4.0], [3.0, 2.0, 1.0], [0.1, 0.2, 0.1])
NAMES = ["aeroplane", "lorry & trailer", "50 % cat_dog", "deer"]
DRAWINGS = {
    "curves": Drawing(
        [panel(LINE, x_log=True, marks=[[2.0, "killed"]]), panel(Line("a_b", [1.0], [2.0], [0.5], [0.1]))]
    ),
    "grid": Drawing(
        [
            Grid(
                "",
                "answered",
                "true",
                "%",
                NAMES,
                [Line(name, range(4), [50.0, 0.0, 30.0, 20.0]) for name in NAMES],
            )
        ]
    ),
    "network": Drawing(
        [
            Network(
                "",
                "SNR, dB",
                [
                    Line(name, [other for other in range(4) if other != node], [1.0, -20.0, 9.0 + node])
                    for node, name in enumerate(NAMES)
                ],
            )
        ]
    ),
}
every_drawing = pytest.mark.parametrize("name", DRAWINGS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The figures of a run."""
    run = tmp_path_factory.mktemp("run")
    write_figures(DRAWINGS, run)
    return run / "figures"


REDRAW = """
import runpy, sys
sys.modules["airmoe"] = None  # it cannot be imported
sys.argv[:] = [sys.argv[1], "svg", "pdf", "pgf"]
sys.path.insert(0, ".")
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@every_drawing
def test_the_script_beside_a_figure_redraws_it_to_the_byte_without_airmoe(folder: Path, name: str) -> None:
    files = [folder / f"{name}.{format_}" for format_ in FORMATS]
    before = [path.read_bytes() for path in files]
    for path in files:
        path.unlink()
    done = subprocess.run(
        [sys.executable, "-B", "-c", REDRAW, f"{name}.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [path.read_bytes() for path in files] == before


@every_drawing
def test_a_script_draws_what_the_csv_says(folder: Path, name: str) -> None:
    text = (folder / f"{name}.csv").read_text(encoding="utf-8")
    drawing = with_rows(DRAWINGS[name])
    assert with_points(drawing, text) == with_points(drawing, points_csv(drawing))
    head, first, *rest = text.splitlines()
    panel, curve, label, x, _, *spread = first.split(",")
    other = "\n".join([head, ",".join([panel, curve, label, x, "7.5", *spread]), *rest])
    assert drawn(with_points(drawing, other), ["svg"]) != drawn(DRAWINGS[name], ["svg"])


THREE = Drawing(
    [
        panel(Line("up", [1.0, 2.0], [1.0, 2.0])),
        Panel(
            *("", "x", "y"),
            [Line(label, [1.0, 2.0], [height] * 2) for height, label in enumerate(("a", "b", "c"))],
        ),
    ]
)


def points_of(drawing: Drawing) -> dict[str, list[float]]:
    filled = with_points(drawing, points_csv(THREE))
    return {line.label: list(line.y) for panel in filled.panels for line in panel.curves}


def test_a_curve_that_is_moved_deleted_or_renamed_leaves_every_label_its_points() -> None:
    _, second = with_rows(THREE).panels
    a, _, c = second.curves
    other = replace(second, curves=[c, replace(a, label="of mine"), Line("mine", [0.0], [7.0])])
    assert points_of(Drawing([other])) == {"c": [2.0, 2.0], "of mine": [0.0, 0.0], "mine": [7.0]}


def test_rows_that_the_csv_lacks_are_refused() -> None:
    lost = Drawing([panel(Line("lost", rows=[1, 3]))])
    with pytest.raises(
        ValueError, match=r"^'lost': rows is \[1, 3\]; expected .*: \[0, 0\], \[1, 0\], \[1, 1\]"
    ):
        points_of(lost)


def test_a_grid_without_one_of_its_columns_is_refused() -> None:
    drawing = with_rows(DRAWINGS["grid"])
    cut = [replace(each, columns=NAMES[1:]) for each in drawing.panels if isinstance(each, Grid)]
    with pytest.raises(ValueError, match=r"^'aeroplane' has 4 cells; expected 3, as columns"):
        with_points(Drawing(cut), points_csv(drawing))


@pytest.mark.parametrize("order", [(1, 0, 2, 3), (0, 1, 2)], ids=["moved", "deleted"])
def test_nodes_of_a_network_stay_where_links_look_for_them(order: Sequence[int]) -> None:
    drawing = with_rows(DRAWINGS["network"])
    changed = [replace(each, curves=[each.curves[place] for place in order]) for each in drawing.panels]
    with pytest.raises(ValueError, match=r"^nodes were moved or deleted; expected all, in their order"):
        with_points(Drawing(changed), points_csv(drawing))


@pytest.mark.parametrize(
    ("edit", "asked", "said"),
    [
        ("", "jpg", "curves.py: format is 'jpg'; expected some of svg, pdf, pgf\n"),
        (
            "rows=[1, 0]",
            "svg",
            "curves.py: 'a_b': rows is [7, 0]; expected [panel, curve] of the CSV: [0, 0], ",
        ),
    ],
    ids=["format", "rows"],
)
def test_a_script_says_in_a_line_what_it_cannot_draw(
    folder: Path, tmp_path: Path, edit: str, asked: str, said: str
) -> None:
    shutil.copytree(folder, tmp_path / "figures")
    script = tmp_path / "figures" / "curves.py"
    text = script.read_text(encoding="utf-8")
    script.write_text(text.replace(edit, "rows=[7, 0]") if edit else text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-B", str(script), asked], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1


def tick_labels(panel: Panel) -> list[str]:
    with mpl.rc_context(STYLE):
        (axes,) = draw(Drawing([panel])).axes
        least, most = axes.get_xlim()
        return [
            tick.label1.get_text() for tick in axes.xaxis.get_major_ticks() if least <= tick.get_loc() <= most
        ]


def test_a_logarithmic_axis_names_every_value_that_was_set_and_round_ones_where_x_was_measured() -> None:
    x = [3.41725, 3.52214, 24.1318]
    swept = Line("swept", [64.0, 200.0], [1.0, 2.0], [0.1, 0.1])
    measured = Line("measured", x, [1.0, 2.0, 3.0], [0.1] * 3, [0.1] * 3)
    assert tick_labels(panel(swept, x_log=True)) == ["64", "200"]
    assert tick_labels(panel(measured, x_log=True)) == ["5", "7", "10", "20"]


@every_drawing
def test_every_text_has_its_place(name: str) -> None:
    assert faults(DRAWINGS[name]) == []


@every_drawing
def test_a_figure_is_as_wide_as_a_column_of_a_page(folder: Path, name: str) -> None:
    width = {"curves": 7.16}.get(name, 3.5)
    root = ET.parse(folder / f"{name}.svg").getroot()
    assert float(root.attrib["width"].removesuffix("pt")) == pytest.approx(72 * width, abs=0.1)
    box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ", (folder / f"{name}.pdf").read_bytes())
    assert box is not None
    assert float(box[1]) == pytest.approx(72 * width, abs=0.1)
    assert rf"{{\pgfqpoint{{{width:f}in}}" in (folder / f"{name}.pgf").read_text(encoding="utf-8")


@every_drawing
def test_no_file_says_when_or_where_it_was_made(folder: Path, name: str) -> None:
    for path in folder.glob(f"{name}.*"):
        content = path.read_bytes()
        for word in (b"CreationDate", b"dc:date", b"/home", b"/tmp", b".ttf", b"site-packages"):
            assert word not in content, path


@every_drawing
def test_texts_in_pgf_are_escaped_and_its_braces_are_even(folder: Path, name: str) -> None:
    text = re.sub(r"^%.*\n", "", (folder / f"{name}.pgf").read_text(encoding="utf-8"))
    bare = re.sub(r"\\[\\{}$&#_%^]", "", text)
    assert bare.count("{") == bare.count("}")
    for shown in re.findall(r"selectfont.*?\\def%\{\\%\}(.*)\}\}$", text, re.MULTILINE):
        if "$" not in shown:
            assert not re.search(r"(?<!\\)[&#_%]", shown), shown


def test_fonts_are_of_eight_points(folder: Path) -> None:
    sizes = set(re.findall(r"font-size: (\d+)px", (folder / "curves.svg").read_text(encoding="utf-8")))
    assert sizes == {"8"}


@every_drawing
def test_on_dark_paper_ink_is_light_and_no_picture_is_left_as_it_was(folder: Path, name: str) -> None:
    svg = (folder / f"{name}.svg").read_bytes()
    dark = dark_svg(svg)
    assert svg.count(INK.encode()) == dark.count(DARK[INK].encode()) > 0
    assert INK.encode() not in dark
    assert b"<image" not in svg  # its colours would stay


@pytest.mark.parametrize("logarithmic", [False, True])
def test_panels_are_valid_svg_that_names_what_it_shows(logarithmic: bool) -> None:
    words = " ".join(ET.fromstring(svg(*[panel(LINE, x_log=logarithmic, y_log=logarithmic)] * 2)).itertext())
    assert words.count("title of it") == words.count("x of it") == words.count("y of it") == 2
    assert words.count("JESA") == 1  # one legend for both


def test_the_same_curves_give_the_same_bytes_and_others_do_not() -> None:
    assert svg(panel(LINE)) == svg(panel(LINE))
    other = Line("JESA", LINE.x, [3.0, 2.0, 1.01], LINE.y_spread)
    assert svg(panel(LINE)) != svg(panel(other))


def test_spread_is_drawn() -> None:
    without = Line("JESA", LINE.x, LINE.y)
    sideways = Line("JESA", LINE.x, LINE.y, LINE.y_spread, [0.1, 0.1, 0.1])
    drawn = [svg(panel(curve)) for curve in (without, LINE, sideways)]
    assert ["FillBetweenPolyCollection" in svg for svg in drawn] == [False, True, False]  # a band
    assert ["LineCollection" in svg for svg in drawn] == [False, False, True]  # error bars


def test_a_value_of_zero_stands_on_the_floor_of_a_logarithmic_axis() -> None:
    gap = Line("gap", [1.0, 2.0, 4.0], [1.0, 0.1, 0.0])
    floor = svg(panel(gap, y_log=True, y_floor=1e-3))
    assert paths(floor) > paths(svg(panel(gap, y_log=True)))
    lower = Line("gap", [1.0, 2.0, 4.0], [1.0, 0.1, 1e-5])
    assert floor == svg(panel(lower, y_log=True, y_floor=1e-3))


def test_what_is_not_finite_is_left_out() -> None:
    gaps = Line("gap", [1.0, 2.0, 4.0], [1.0, np.inf, 0.5])
    assert svg(panel(gaps)) == svg(panel(Line("gap", [1.0, 4.0], [1.0, 0.5])))


def test_panels_that_do_not_fill_their_grid_can_be_drawn() -> None:
    root = ET.fromstring(svg(*[panel(LINE)] * 3, columns=2))
    assert " ".join(root.itertext()).count("title of it") == 3


def rows_of_legend(labels: list[str]) -> list[int]:
    """How many entries each row of the legend has, from above."""
    panel = Panel("", "x", "y", [Line(label, [0.0, 1.0], [0.0, 1.0]) for label in labels])
    with mpl.rc_context(STYLE):
        figure = draw(Drawing([panel, panel]))
        (legend,) = figure.legends
        heights = Counter(round(text.get_window_extent().y0) for text in legend.get_texts())
    return [heights[height] for height in sorted(heights, reverse=True)]


@pytest.mark.parametrize(
    ("entries", "rows"),
    [(1, [1]), (5, [5]), (6, [3, 3]), (7, [4, 3]), (9, [5, 4]), (10, [5, 5]), (11, [4, 4, 3])],
)
def test_the_rows_of_a_legend_are_of_about_equal_length(entries: int, rows: list[int]) -> None:
    assert rows_of_legend([f"topk:{number}" for number in range(entries)]) == rows


@given(st.integers(1, 40), st.integers(1, 5))
def test_no_entry_of_a_legend_is_alone_if_one_more_row_helps(entries: int, most: int) -> None:
    columns = balanced_columns(entries, range(1, most + 1))
    fewest, rows = -(-entries // most), -(-entries // columns)
    assert rows <= fewest + 1
    others = [other for other in range(2, most + 1) if -(-entries // other) <= fewest + 1]
    if columns > 1 and entries % columns == 1:
        assert all(entries % other == 1 for other in others)
    elif rows > fewest:
        assert all(entries % other == 1 for other in others if -(-entries // other) == fewest)


def test_long_names_get_fewer_columns() -> None:
    assert rows_of_legend(["a policy of a very long name, one of four " + "abcd"[n] for n in range(4)]) == [
        2,
        2,
    ]


MATHS = {
    "costs $5": r"costs \$5",
    "share of $x_1$, %": r"share of $x_1$, \%",
    r"\$5 of $y$ & more": None,
    "$x$": "$x$",
}


@pytest.mark.parametrize("label", MATHS)
def test_a_label_with_dollar_signs_is_drawn_and_valid_latex(label: str) -> None:
    assert math_fault(label) is None
    files = drawn(Drawing([Panel("", label, "y", [Line("a", [0.0, 1.0], [0.0, 1.0])])]))
    latex = files["pgf"].decode()
    assert MATHS[label] is None or MATHS[label] in latex
    text = re.sub(r"\\.", "", "".join(re.findall(r"selectfont (.*)\}%$", latex, re.MULTILINE)))
    assert text.count("$") % 2 == 0


@pytest.mark.parametrize("label", [r"$\surprise$", "$x_{1$", "$$"])
def test_mathematics_that_cannot_be_drawn_is_found_without_drawing(label: str) -> None:
    fault = math_fault(label)
    try:
        drawn(Drawing([Panel("", label, "y", [Line("a", [0.0, 1.0], [0.0, 1.0])])]), ["svg"])
    except ValueError:
        assert fault is not None
    else:
        assert fault is None
