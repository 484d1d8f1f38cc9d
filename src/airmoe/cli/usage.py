"""What a user is told of a wrong option, in the words of the other errors."""

import re

import typer
from pydantic import ValidationError

from airmoe.errors import InvalidInputError, did_you_mean
from airmoe.records import refusal


def line_about_usage(error: typer.TyperException) -> str:
    """Return what to tell of a command line that cannot be, in one line."""
    return " ".join(_told(error).split())


def _told(error: typer.TyperException) -> str:
    said, option = error.format_message(), getattr(error, "param", None)
    cause = error.__cause__
    if option is None or not isinstance(cause, ValidationError):
        return said
    wrong = refusal(cause, lambda key: "/".join(option.opts))
    choices = wrong.expected.partition(" is not one of ")[2].rstrip(".")
    if not choices:
        return str(wrong)
    near = did_you_mean(wrong.value, re.findall("'(.*?)'", choices))
    return str(InvalidInputError(wrong.name, wrong.value, f"one of {choices}{near}"))
