"""The option ``--plugin``, which brings parts of a user's own to every command that takes names."""

import logging
from collections.abc import Collection
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


def tell_unused_plugins(paths: list[Path], needed: Collection[str] = ()) -> None:
    """Say which of the plugin files bring nothing that this command asks for.

    Args:
        paths: the files that the command was given.
        needed: names of files that cannot be left out in any case.
    """
    if not paths:
        return
    from airmoe.plugins import unused_plugins

    for plugin in unused_plugins():
        if plugin.file not in needed:
            brought = ", ".join(plugin.parts)
            logging.getLogger("airmoe").warning("%s is not used: it brings %s", plugin.file, brought)
