"""SNR processes made from the texts that the command line and configuration files give."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from airmoe.errors import InvalidInputError
from airmoe.links.fading_processes import GaussMarkovSnr, JakesSnr, RayleighSnr, RicianSnr
from airmoe.links.path_loss import ShadowedPathLossSnr
from airmoe.links.processes import FixedSnr, OneBadSnr, SnrProcess, SpreadSnr, UniformSnr
from airmoe.links.tdl import TdlSnr
from airmoe.links.traces import TraceSnr

PROCESS_FORMS = (
    "fixed:SNR_DB[,SNR_DB...], uniform:LOW_DB:HIGH_DB, spread:MEAN_DB:SPREAD_DB, "
    "one-bad:BAD_DB:GOOD_DB[:LINK], rayleigh:MEAN_DB, rician:MEAN_DB:K_DB, "
    "gauss-markov:MEAN_DB:CORRELATION, jakes:MEAN_DB:DOPPLER, "
    "path-loss:REFERENCE_SNR_DB:EXPONENT:RADIUS_M[:SHADOWING_DB[:CORRELATION[:REFERENCE_M]]], "
    "tdl:MODEL:MEAN_DB[:SPEED_MPS[:DELAY_SPREAD_S[:CARRIER_HZ[:SLOT_S[:SUBCARRIERS[:SUBCARRIER_HZ]]]]]], "
    "trace:PATH or trace-of:COLUMN:PATH"
)
"""Every form that `make_process` reads."""


def make_process(text: str) -> SnrProcess:
    """Return the process that a text describes; its `name` is the same text in its shortest form.

    Args:
        text: one of the forms in `PROCESS_FORMS`, e.g. "uniform:-5:20". A path may hold colons. In the name
            of a column a colon is written %3A and a percent sign %25.

    Raises:
        InvalidInputError: the form is unknown (the message lists all forms), or a parameter is out of range.
        DataError: a trace cannot be read.

    Examples:
        >>> from airmoe.links import make_process
        >>> make_process("uniform:-5:20")
        UniformSnr(low_db=-5.0, high_db=20.0)
        >>> make_process("rician:10.0:5.0").name
        'rician:10:5'
    """
    rule, _, rest = text.partition(":")
    if rule == "trace" and rest:
        return TraceSnr(Path(rest))
    if rule == "trace-of":
        column, _, path = rest.partition(":")
        if column and path:
            return TraceSnr(Path(path), unquote(column))
    maker, types, needed = _RULES.get(rule, (None, (), 0))
    fields = rest.split(":")
    if maker is None or not needed <= len(fields) <= len(types):
        raise InvalidInputError("channel", text, PROCESS_FORMS)
    try:
        values = [convert(field) for convert, field in zip(types, fields, strict=False)]
    except ValueError:  # a field that is no number
        raise InvalidInputError("channel", text, PROCESS_FORMS) from None
    return maker(*values)


def _number_or_numbers(text: str) -> float | tuple[float, ...]:
    if "," not in text:
        return float(text)
    return tuple(float(number) for number in text.removesuffix(",").split(","))


_RULES: dict[str, tuple[Callable[..., SnrProcess], tuple[Callable[[str], Any], ...], int]] = {
    "fixed": (FixedSnr, (_number_or_numbers,), 1),
    "uniform": (UniformSnr, (float, float), 2),
    "spread": (SpreadSnr, (float, float), 2),
    "one-bad": (OneBadSnr, (float, float, int), 2),
    "rayleigh": (RayleighSnr, (float,), 1),
    "rician": (RicianSnr, (float, float), 2),
    "gauss-markov": (GaussMarkovSnr, (float, float), 2),
    "jakes": (JakesSnr, (float, float), 2),
    "path-loss": (ShadowedPathLossSnr, (float,) * 6, 3),
    "tdl": (TdlSnr, (str, float, float, float, float, float, int, float), 2),
}
"""The class of each rule, the functions that read its fields, and how many fields are needed."""
