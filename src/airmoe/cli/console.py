"""The console that commands print to."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

PIPED_WIDTH = 10_000
"""Where no terminal limits it, a table is as wide as it is, and each of its rows is a line."""


@cache
def console() -> Console:
    """Return it; a node that serves has no use for it, and Rich loads slowly."""
    from rich.console import Console

    # Rich leaves bold and italic where NO_COLOR is set; who sets it wants plain text.
    plain = {"color_system": None} if os.environ.get("NO_COLOR") else {}
    made = Console(markup=False, **plain)  # type: ignore[arg-type]  # file and class names are no markup
    if not made.is_terminal and not os.environ.get("COLUMNS"):
        made.width = PIPED_WIDTH
    return made


def tell(line: str, style: str | None = None) -> None:
    """Print a line, and break it nowhere: a terminal does that itself, and programs read whole lines."""
    console().print(line, style=style, soft_wrap=True)
