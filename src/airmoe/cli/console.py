"""The console that commands print to."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


@cache
def console() -> Console:
    """Return it; a node that serves has no use for it, and Rich loads slowly."""
    from rich.console import Console

    # Rich leaves bold and italic where NO_COLOR is set; who sets it wants plain text.
    plain = {"color_system": None} if os.environ.get("NO_COLOR") else {}
    return Console(markup=False, **plain)  # type: ignore[arg-type]  # file and class names are no markup
