"""The look of every method: the same colour and marker in all figures.

Colours can be told apart by readers who are colour blind, and markers without any colour.
"""

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from airmoe.report.drawing import INK, MUTED, Look

VERMILION, BLUE, GREEN, PURPLE = "#d55e00", "#0072b2", "#00916e", "#b0559a"
GOLD, SKY, WINE, OLIVE = "#b8860b", "#3a94cc", "#882255", "#6b7a1e"

LOOKS = {
    # policies
    "jesa": Look(VERMILION, "o"),
    "des": Look(BLUE, "s"),
    "homogeneous": Look(PURPLE, "D"),
    "topk": Look(MUTED, "^"),
    "wlr": Look(GREEN, "p"),
    "cheapest": Look(SKY, "P"),
    "all": Look(WINE, "X"),
    "random": Look(GOLD, "*"),
    "best-link": Look(GREEN, "s"),
    "local": Look(OLIVE, "v"),
    # gates
    "channel-aware": Look(VERMILION, "o"),
    "naive": Look(MUTED, "^"),
    "naive-noise": Look(BLUE, "D"),
    "naive-noise-no-good-link": Look(BLUE, "h", "--"),
    # references
    "lower-bound": Look(INK, "", "--"),
    "channel-off": Look(INK, "", "--"),
    "formula": Look(INK, "", "--"),
    "oracle": Look(PURPLE, "v"),
    "one-network": Look(SKY, "P"),
    "one-network-best-link": Look(SKY, "X", "--"),
    "central": Look(WINE, "X"),
    # bounds of a schedule
    "bound none": Look(MUTED, "^"),
    "bound fast": Look(BLUE, "s"),
    "bound tight": Look(VERMILION, "o"),
    # of many values
    "median": Look(BLUE, "s"),
    "quantile": Look(GOLD, "D"),
    "largest": Look(VERMILION, "o"),
}
"""Look of each method, policy or quantity by its name in settings."""

VARIANTS = (
    ("o", "-"),
    ("s", "--"),
    ("^", "-."),
    ("D", ":"),
    ("v", "-"),
    ("P", "--"),
    ("X", "-."),
    ("*", ":"),
)
SPARE = (PURPLE, OLIVE, WINE, SKY, GOLD, GREEN)


def looks_of(names: Sequence[str]) -> list[Look]:
    """Return a look for each curve of a figure, by the name of its method.

    Curves of the same method have its colour, and markers and dashes of their own. A name that is not in
    `LOOKS` always gets the same colour, too.
    """
    seen: Counter[str] = Counter()
    found: list[Look] = []
    for name in names:
        look = LOOKS.get(name) or Look(SPARE[zlib.crc32(name.encode()) % len(SPARE)])
        if seen[name] or look in found:
            free = [replace(look, marker=marker, dash=dash) for marker, dash in VARIANTS]
            look = next((variant for variant in free if variant not in found), look)
        seen[name] += 1
        found.append(look)
    return found
