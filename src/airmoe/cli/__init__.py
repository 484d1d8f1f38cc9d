"""The command line: a module per group of commands; each parses, calls and prints."""

import sys


def main() -> None:
    """Run the command line; Ctrl-C ends it with status 130, also while it still loads."""
    try:
        from airmoe.cli.app import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)
