"""Figures on dark screens: the same SVG in other colours."""

import re
from functools import cache

from matplotlib.colors import to_hex, to_rgb

from airmoe.report.drawing import FAINTEST, GRID, INK, MUTED, PAPER, value_colours

DARK = {INK: "#e6eaee", MUTED: "#a3adb8", GRID: "#343c44", PAPER: "#171b20"}
"""Colours around the curves."""

LOWEST, HIGHEST = "#1f2a36", "#9fd0ff"
"""The lowest and the highest value."""

WHITE = 0.35
"""How much white is mixed into the colours of curves."""


def dark_svg(svg: bytes) -> bytes:
    """Return a figure for dark paper: light texts, brighter curves, and values from dark to light."""
    return re.sub(rb"#[0-9a-f]{6}", lambda found: _dark(found[0].decode()).encode(), svg)


@cache
def _of_values() -> dict[str, str]:
    """Return the colour of each value by its colour on light paper."""
    found: dict[str, str] = {}
    for first in (0.0, FAINTEST):
        light = value_colours(first)
        for level, colour in enumerate(light):
            share = first + (1 - first) * level / (len(light) - 1)
            found[colour] = _mixed(LOWEST, HIGHEST, share)
    return found


def _dark(colour: str) -> str:
    return DARK.get(colour) or _of_values().get(colour) or _mixed(colour, PAPER, WHITE)


def _mixed(one: str, other: str, share: float) -> str:
    """Return a colour with a share of another in it."""
    red, green, blue = (
        (1 - share) * first + share * second for first, second in zip(to_rgb(one), to_rgb(other), strict=True)
    )
    return to_hex((red, green, blue))
