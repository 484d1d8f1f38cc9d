"""The option ``--plugin``, which brings parts of a user's own to every command that takes names."""

from pathlib import Path
from typing import Annotated

import typer

from airmoe.cli.paths import all_expanded

Plugins = Annotated[
    list[Path],
    typer.Option(
        "--plugin",
        callback=all_expanded,
        metavar="FILE.py",
        help="Python file with parts of your own: policies, gates, channels, partitions, backbones, "
        "aggregations (airmoe.plugins). It is run. May be repeated.",
    ),
]


def load_plugins(paths: list[Path]) -> None:
    """Load plugin files, if there are any: a node without them starts sooner."""
    if paths:
        from airmoe import plugins

        plugins.load_plugins(paths)
