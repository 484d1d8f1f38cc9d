"""The command line: a module per group of commands; each parses, calls and prints."""

import sys
from typing import NoReturn


def main() -> None:
    """Run the command line; Ctrl-C ends it with status 130, also while it still loads."""
    try:
        from airmoe.cli.app import main as run

        run()
    except KeyboardInterrupt:
        end(130)


def end(status: int) -> NoReturn:
    """Exit with a status."""
    exec("")  # CPython ends by a signal if the last text that was executed was interrupted
    sys.exit(status)
