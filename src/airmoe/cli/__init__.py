"""The command line: a module per group of commands; each parses, calls and prints."""

import os
import sys
from pathlib import Path
from typing import NoReturn


def main() -> None:
    """Run the command line; Ctrl-C ends it with status 130, also while it still loads."""
    _open_closed_streams()
    try:
        from airmoe.cli.app import main as run

        run()
    except KeyboardInterrupt:
        end(130)


def _open_closed_streams() -> None:
    """Let a standard stream that is closed be one of which nothing comes and nobody reads.

    Otherwise the next file or socket that is opened gets its number, and what is printed goes there.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # An open file gets the lowest number that is free: that of the stream.
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 (for good)


def end(status: int) -> NoReturn:
    """Exit with a status."""
    exec("")  # CPython ends by a signal if the last text that was executed was interrupted
    sys.exit(status)
