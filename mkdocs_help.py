"""Puts the help of every command into docs/reference/cli.md while the documentation is built."""

import os
import subprocess
import sys

import typer.main

from airmoe.cli.app import app

MARK = "<!-- help: airmoe -->"


def on_page_markdown(markdown: str, **_: object) -> str:
    """Replace the mark by one section per command, in the order of ``airmoe --help``."""
    return (
        markdown.replace(MARK, "\n\n".join(_section(words) for words in commands()))
        if MARK in markdown
        else markdown
    )


def commands() -> list[tuple[str, ...]]:
    """Return the words of every command that a user can type, groups included."""
    return list(_walk(typer.main.get_command(app), ()))


def _walk(command, words):
    yield words
    for name, below in getattr(command, "commands", {}).items():
        yield from _walk(below, (*words, name))


def _section(words: tuple[str, ...]) -> str:
    help_text = subprocess.run(
        [sys.executable, "-m", "airmoe.cli", *words, "--help"],
        env={**os.environ, "COLUMNS": "100", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.replace("python -m airmoe.cli", "airmoe")
    return f"## {' '.join(('airmoe', *words))}\n\n```\n{help_text.strip()}\n```"
