"""The console that commands print to."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


@cache
def console() -> Console:
    """Return it; a node that serves has no use for it, and Rich loads slowly."""
    from rich.console import Console

    return Console(markup=False)  # file and class names are no markup
