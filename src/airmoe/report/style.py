"""The look of every method: the same colour and marker in all figures.

Colours can be told apart by readers who are colour blind, and markers without any colour.
"""

import zlib
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
    "ensemble": Look(INK, "h"),
    # gates
    "channel-aware": Look(VERMILION, "o"),
    "naive": Look(MUTED, "^"),
    "naive-noise": Look(BLUE, "D"),
    "naive-noise-no-good-link": Look(BLUE, "h", "--"),
    "overlap": Look(WINE, "o"),
    "overlap-blind": Look(BLUE, "p"),
    "overlap-best-link": Look(GREEN, "d", "--"),
    # references
    "lower-bound": Look(INK, "", "--"),
    "channel-off": Look(INK, "", "--"),
    "formula": Look(INK, "", "--"),
    "oracle": Look(PURPLE, "v"),
    "one-network": Look(SKY, "P"),
    "one-network-best-link": Look(SKY, "X", "--"),
    "copied": Look(INK, "X", "--"),
    "overlap-oracle": Look(PURPLE, "<", "--"),
    "central": Look(WINE, "X"),
    # federated training
    "networked": Look(VERMILION, "o"),
    "networked-top-2": Look(VERMILION, "D", "--"),
    "local-smoothed": Look(OLIVE, "^", "--"),
    "fedavg": Look(SKY, "P"),
    "global-head": Look(BLUE, "s"),
    "holder": Look(PURPLE, "h", "--"),
    # language models
    "mixture": Look(VERMILION, "o"),
    "expert": Look(SKY, "P"),
    "seed": Look(INK, "v", "--"),
    "dense-branch": Look(BLUE, "s"),
    "dense-all": Look(WINE, "X"),
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

_MARKERS = (*"os^DvPX*phd<>8H", *(f"${number}$" for number in range(1, 100)))
_DASHES = ("-", "--", "-.", ":")
VARIANTS = tuple((marker, _DASHES[place % len(_DASHES)]) for place, marker in enumerate(_MARKERS))
"""Markers and dashes of curves that cannot have the usual ones; numbers where all other markers are taken."""

SPARE = (PURPLE, OLIVE, WINE, SKY, GOLD, GREEN, BLUE, VERMILION)
"""Colours of methods that are not in `LOOKS`."""


def looks_of(names: Sequence[str]) -> list[Look]:
    """Return a look for each curve of a figure, by the name of its method; no two share colour and marker.

    Curves of the same method have its colour, and markers and dashes of their own. A method that is not in
    `LOOKS` has the same colour in every figure, except where another method of the figure has it.
    """
    usual = _usual_looks(names)
    taken, found = set[tuple[str, str]](), list[Look]()
    for name in names:
        look = usual[name]
        choices = [look, *(replace(look, marker=marker, dash=dash) for marker, dash in VARIANTS)]
        look = next((one for one in choices if (one.colour, one.marker) not in taken), look)
        taken.add((look.colour, look.marker))
        found.append(look)
    return found


def _usual_looks(names: Sequence[str]) -> dict[str, Look]:
    """Return the look of the first curve of each method, whatever the order of the names."""
    looks = {name: LOOKS[name] for name in names if name in LOOKS}
    for name in sorted(set(names) - looks.keys()):
        first = zlib.crc32(name.encode()) % len(SPARE)
        turned = (*SPARE[first:], *SPARE[:first])
        used = {look.colour for look in looks.values()}
        looks[name] = Look(next((colour for colour in turned if colour not in used), turned[0]))
    return looks
