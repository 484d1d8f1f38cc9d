"""Looks of methods: seen by readers who are colour blind, on light and on dark paper, and always the same."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb

from airmoe.networked.baseline_table import METHODS as BASELINES
from airmoe.report.dark import DARK, dark_svg
from airmoe.report.drawing import PAPER
from airmoe.report.style import LOOKS, SPARE, looks_of
from airmoe.studies.gating.methods import METHODS
from airmoe.studies.selection.energy_figures import ORDER

SEEN_BY = {
    "most": np.eye(3),
    # Machado, Oliveira and Fernandes (2009), severity 1
    "protanopes": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopes": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}


def linear(colour: str) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    parts = np.array(to_rgb(colour))
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def lightness(colour: str) -> float:
    return float(linear(colour) @ [0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    high, low = sorted((lightness(one), lightness(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def lab(colour: str, seen: object) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    rgb = np.clip(np.asarray(seen) @ linear(colour), 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ rgb
    x, y, z = np.cbrt(xyz / [0.9505, 1.0, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize(
    "names", [tuple(METHODS), ORDER, tuple(BASELINES)], ids=["gating", "selection", "networked"]
)
@pytest.mark.parametrize("who", SEEN_BY)
def test_two_methods_differ_in_what_everybody_sees(names: tuple[str, ...], who: str) -> None:
    for one, other in combinations(names, 2):
        apart = np.linalg.norm(lab(LOOKS[one].colour, SEEN_BY[who]) - lab(LOOKS[other].colour, SEEN_BY[who]))
        shape, second = ((LOOKS[name].marker, LOOKS[name].dash) for name in (one, other))
        references = {one, other} <= {"oracle", "channel-off", "lower-bound"}
        assert apart > 10 or shape != second or references, (one, other, apart)


@pytest.mark.parametrize("name", LOOKS)
def test_every_colour_is_seen_on_light_and_on_dark_paper(name: str) -> None:
    colour = LOOKS[name].colour
    assert contrast(colour, PAPER) >= 3
    assert contrast(dark_svg(colour.encode()).decode(), DARK[PAPER]) >= 3


def test_curves_of_one_method_have_its_colour_and_markers_of_their_own() -> None:
    looks = looks_of(["naive", "channel-aware", "naive", "naive"])
    assert looks[0] == LOOKS["naive"]
    assert {look.colour for look in (looks[0], looks[2], looks[3])} == {LOOKS["naive"].colour}
    assert len(set(looks)) == 4


def test_a_method_that_is_not_known_has_the_same_colour_in_every_figure() -> None:
    colour = looks_of(["my-policy"])[0].colour
    assert colour in {look.colour for look in LOOKS.values()}
    assert looks_of(["topk", "another", "my-policy"])[2].colour == colour


UNKNOWN = [f"own-{number}" for number in range(40)]
names_of_a_figure = st.one_of(
    st.lists(st.sampled_from([*LOOKS, *UNKNOWN, "good-enough"]), max_size=60),
    st.lists(st.sampled_from(["topk", "naive", "central", "own-1"]), max_size=30),
)


@given(names_of_a_figure)
def test_two_curves_of_a_figure_never_share_colour_and_marker(names: list[str]) -> None:
    looks = looks_of(names)
    assert len({(look.colour, look.marker) for look in looks}) == len(names)


@given(names_of_a_figure)
def test_a_method_keeps_its_colour(names: list[str]) -> None:
    colours = dict[str, set[str]]()
    for name, look in zip(names, looks_of(names), strict=True):
        colours.setdefault(name, set()).add(look.colour)
    assert all(len(of_method) == 1 for of_method in colours.values())
    for name in colours.keys() & LOOKS.keys():
        assert colours[name] == {LOOKS[name].colour}
    for name, look in zip(reversed(names), looks_of(names[::-1]), strict=True):
        assert look.colour in colours[name]  # whatever the order


@given(names_of_a_figure)
def test_an_unknown_method_has_a_colour_for_itself_while_there_is_one(names: list[str]) -> None:
    colour_of = {name: look.colour for name, look in zip(names, looks_of(names), strict=True)}
    for name in colour_of.keys() - LOOKS.keys():
        others = {colour for other, colour in colour_of.items() if other != name}
        assert colour_of[name] not in others or set(SPARE) <= others


def test_policies_of_an_evaluation_have_colours_of_their_own() -> None:
    looks = looks_of(["local", "topk", "all", "good-enough", "jesa", "ensemble"])
    assert len({look.colour for look in looks}) == 6
