"""Curves with their spread: valid SVG, the same bytes for the same numbers, nothing silently left out."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from airmoe.report.panels import Line, Panel, draw_panels


def panel(curve: Line, **options: object) -> Panel:
    return Panel("title of it", "x of it", "y of it", [curve], **options)  # type: ignore[arg-type]


def paths(svg: str) -> int:
    return svg.count("<path") + svg.count("<use")


LINE = Line("JESA", [1.0, 2.0, 4.0], [3.0, 2.0, 1.0], [0.1, 0.2, 0.1])


@pytest.mark.parametrize("logarithmic", [False, True])
def test_panels_are_valid_svg_that_names_what_it_shows(logarithmic: bool) -> None:
    svg = draw_panels([panel(LINE, x_log=logarithmic, y_log=logarithmic)] * 2)
    words = " ".join(ET.fromstring(svg).itertext())
    assert words.count("title of it") == words.count("x of it") == words.count("y of it") == 2
    assert words.count("JESA") == 1  # one legend for both


def test_the_same_curves_give_the_same_bytes_and_others_do_not() -> None:
    assert draw_panels([panel(LINE)]) == draw_panels([panel(LINE)])
    other = Line("JESA", LINE.x, [3.0, 2.0, 1.01], LINE.y_spread)
    assert draw_panels([panel(LINE)]) != draw_panels([panel(other)])


def test_spread_is_drawn() -> None:
    without = Line("JESA", LINE.x, LINE.y)
    sideways = Line("JESA", LINE.x, LINE.y, LINE.y_spread, [0.1, 0.1, 0.1])
    drawn = [draw_panels([panel(curve)]) for curve in (without, LINE, sideways)]
    assert ["FillBetweenPolyCollection" in svg for svg in drawn] == [False, True, False]  # a band
    assert ["LineCollection" in svg for svg in drawn] == [False, False, True]  # error bars


def test_a_value_of_zero_stands_on_the_floor_of_a_logarithmic_axis() -> None:
    gap = Line("gap", [1.0, 2.0, 4.0], [1.0, 0.1, 0.0])
    floor = draw_panels([panel(gap, y_log=True, y_floor=1e-3)])
    assert paths(floor) > paths(draw_panels([panel(gap, y_log=True)]))
    lower = Line("gap", [1.0, 2.0, 4.0], [1.0, 0.1, 1e-5])
    assert floor == draw_panels([panel(lower, y_log=True, y_floor=1e-3)])


def test_what_is_not_finite_is_left_out() -> None:
    gaps = Line("gap", [1.0, 2.0, 4.0], [1.0, np.inf, 0.5])
    assert draw_panels([panel(gaps)]) == draw_panels([panel(Line("gap", [1.0, 4.0], [1.0, 0.5]))])


def test_panels_that_do_not_fill_their_grid_can_be_drawn() -> None:
    root = ET.fromstring(draw_panels([panel(LINE)] * 3, columns=2))
    assert " ".join(root.itertext()).count("title of it") == 3
