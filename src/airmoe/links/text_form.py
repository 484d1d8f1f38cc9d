"""An SNR process as text: its rule and its fields, as `make_process` reads them."""

from dataclasses import fields
from typing import Any


def text_form(rule: str, process: Any, needed: int) -> str:
    """Return "rule:field:field..."; trailing fields that have their defaults are left out.

    Args:
        rule: the first word.
        process: a dataclass whose fields are numbers or text without colons.
        needed: the number of fields that are always written.
    """
    written = [field for field in fields(process) if field.init]
    while len(written) > needed and getattr(process, written[-1].name) == written[-1].default:
        written.pop()
    return ":".join([rule, *(_text(getattr(process, field.name)) for field in written)])


def shortest(number: float) -> str:
    """Return the shortest text that reads back as the same number."""
    return repr(float(number)).removesuffix(".0")


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else shortest(value)
