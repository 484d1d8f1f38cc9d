"""What a group of commands does where no command is named: it explains itself."""

import sys
from typing import Annotated

import typer

from airmoe.versions import version_of

HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}


def _print_version(asked: bool) -> None:
    if asked:
        print(f"airmoe {version_of('airmoe')}")
        raise typer.Exit


def explain_airmoe(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Train and run a mixture of experts whose experts live on different devices joined by a network."""
    explain(context)


def explain(context: typer.Context) -> None:
    """Print the help of a group to standard error where no command is named; exit with status 2."""
    if context.invoked_subcommand is None:
        print(context.get_help(), file=sys.stderr)
        raise typer.Exit(2)
