"""What a user is told of a wrong option, in the words of the other errors."""

import re
from typing import Any

import typer
from pydantic import ValidationError

from airmoe.errors import InvalidInputError, did_you_mean
from airmoe.records import refusal

WrongUsage: type[Exception] = getattr(typer, "TyperException", typer.BadParameter.__mro__[2])
"""What Typer raises; before its version 0.21, which Flower holds to, it was an error of Click."""


def line_about_usage(error: Exception) -> str:
    """Return what to tell of a command line that cannot be, in one line."""
    return " ".join(_told(error).split())


def _told(error: Any) -> str:
    said, option = str(error.format_message()), getattr(error, "param", None)
    cause = error.__cause__
    if option is None:
        return said
    name = "/".join(option.opts)
    if isinstance(cause, ValidationError):
        wrong = refusal(cause, lambda key: name)
        choices = wrong.expected.partition(" is not one of ")[2].rstrip(".")
        return str(_of_choices(name, wrong.value, choices) if choices else wrong)
    by_click = re.fullmatch(r"'(.*)' is not (?:one of (.+)|a valid (.+))\.", getattr(error, "message", ""))
    if by_click is None:
        return said
    value, choices, kind = by_click.groups()
    return str(
        _of_choices(name, value, choices) if choices else InvalidInputError(name, value, _of_kind(kind))
    )


def _of_choices(name: str, value: object, choices: str) -> InvalidInputError:
    near = did_you_mean(value, re.findall("'(.*?)'", choices))
    return InvalidInputError(name, value, f"one of {choices}{near}")


def _of_kind(kind: str) -> str:
    """Return how other errors call what Click calls an integer range, or a float."""
    return {"integer": "an integer", "float": "a number"}.get(kind.removesuffix(" range"), f"a valid {kind}")
