"""The command line: a module per group of commands; each parses, calls and prints."""

from airmoe.cli.app import main

__all__ = ["main"]
