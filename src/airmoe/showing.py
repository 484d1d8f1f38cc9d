"""What objects show of themselves: a line of text, and small pictures in notebooks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

FEW = 4
"""Longer sequences are counted, not listed."""

LONGEST_TEXT = 60
MOST_CELLS = 64
"""Rows or columns of the largest heat map."""


def escaped(text: str) -> str:
    """Return a text as HTML shows it."""
    import html  # a node never needs its table of 2,000 names

    return html.escape(text)


class OneLine:
    """A dataclass (made with ``repr=False``) that shows arrays by type and shape, in one line.

    Examples:
        >>> from dataclasses import dataclass
        >>> import numpy as np
        >>> from airmoe.showing import OneLine
        >>> @dataclass(repr=False)
        ... class Taken(OneLine):
        ...     scores_TE: np.ndarray
        ...     seed: int
        >>> Taken(np.zeros((100, 8)), 3)
        Taken(scores_TE=float64 (100, 8), seed=3)
    """

    def __repr__(self) -> str:
        named = [field.name for field in fields(self) if field.repr]  # type: ignore[arg-type]
        shown = ", ".join(f"{name}={in_short(getattr(self, name))}" for name in named)
        return f"{type(self).__name__}({shown})"


def in_short(value: object) -> str:
    """Return a value in a few words: arrays by dtype and shape, long sequences by their length."""
    if hasattr(value, "dtype") and hasattr(value, "shape") and len(value.shape):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    if isinstance(value, Mapping | Set):
        return f"{type(value).__name__} of {len(value)}"
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        if len(value) > FEW:
            return f"{type(value).__name__} of {len(value)}"
        brackets = "()" if isinstance(value, tuple) else "[]"
        return f"{brackets[0]}{', '.join(map(in_short, value))}{brackets[1]}"
    text = " ".join(repr(value).split())
    if len(text) <= LONGEST_TEXT or isinstance(value, OneLine):
        return text
    return f"{text[: LONGEST_TEXT - 4]} ..."


def heat_map(
    shown: NDArray[Any],
    title: str,
    tip: Callable[[int, int], str],
    *,
    hues: int = 0,
    axes: tuple[str, str] = ("from", "to"),
) -> str:
    """Return a matrix as an inline SVG: a coloured square per entry, with its number and a tooltip.

    Args:
        shown: (rows, columns), at most `MOST_CELLS` each; an entry that is not finite is left blank.
        title: above the picture.
        tip: what the entry of a row and column says when pointed at.
        hues: how many kinds entries name by number, for a colour each; 0 for a scale from least to most.
        axes: what rows and columns are.
    """
    rows, columns = shown.shape
    finite = np.isfinite(shown)
    low, high = (shown[finite].min(), shown[finite].max()) if finite.any() else (0.0, 1.0)
    side = 34 if max(rows, columns) <= 12 else 10
    left, top = 44, 40
    parts = [f'<text x="0" y="14" font-size="13">{escaped(title)}</text>']
    parts += [f'<text x="0" y="32">{escaped(axes[0])} \\ {escaped(axes[1])}</text>']
    for row, column in np.ndindex(rows, columns):
        value, x, y = shown[row, column], left + column * side, top + row * side
        colour, ink = "none", "currentColor"
        if finite[row, column]:
            share = 0.5 if high == low else (value - low) / (high - low)
            colour = f"hsl({210 - 170 * share:.0f},55%,{38 + 32 * share:.0f}%)"
            ink = "#fff" if share < 0.4 else "#000"
            if hues:
                colour, ink = f"hsl({360 * value / hues:.0f},60%,78%)", "#000"
        parts.append(
            f'<rect x="{x}" y="{y}" width="{side - 1}" height="{side - 1}" fill="{colour}">'
            f"<title>{escaped(tip(row, column))}</title></rect>"
        )
        if side > 20 and finite[row, column]:
            middle = f'x="{x + side / 2:g}" y="{y + side / 2 + 4:g}" text-anchor="middle"'
            parts.append(f'<text {middle} fill="{ink}">{value:.0f}</text>')
    if side > 20:
        parts += [
            f'<text x="{left - 8}" y="{top + i * side + side / 2 + 4:g}" text-anchor="end">{i}</text>'
            for i in range(rows)
        ]
        parts += [
            f'<text x="{left + i * side + side / 2:g}" y="{top - 6}" text-anchor="middle">{i}</text>'
            for i in range(columns)
        ]
    width, height = max(left + columns * side, 8 * len(title)), top + rows * side
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11" fill="currentColor">'
        f"{''.join(parts)}</svg>"
    )


def in_html(shown: object) -> str:
    """Return an object's line of text for a notebook, for what is too large to draw."""
    return f"<code>{escaped(repr(shown))}</code>"
