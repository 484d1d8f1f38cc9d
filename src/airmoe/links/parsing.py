"""SNR processes from texts, as the command line and configuration files give them."""

from airmoe.links.fading_processes import GaussMarkovSnr, JakesSnr, RayleighSnr, RicianSnr
from airmoe.links.path_loss import ShadowedPathLossSnr
from airmoe.links.processes import FixedSnr, OneBadSnr, SnrProcess, SpreadSnr, UniformSnr
from airmoe.links.tdl import TdlSnr
from airmoe.links.traces import OTHER_COLUMN, POWER, TraceSnr
from airmoe.spec_text import SpecTexts

_KNOWN = (
    *(FixedSnr, UniformSnr, SpreadSnr, OneBadSnr, RayleighSnr, RicianSnr, GaussMarkovSnr, JakesSnr),
    *(ShadowedPathLossSnr, TdlSnr, TraceSnr, OTHER_COLUMN, POWER),
)
_PROCESSES = SpecTexts[SnrProcess]("channel", _KNOWN)

PROCESS_FORMS = str(_PROCESSES)
"""Every form that `make_process` reads."""


def make_process(text: str) -> SnrProcess:
    """Return the process that a text describes; its `name` is the same text in its shortest form.

    Args:
        text: one of the forms in `PROCESS_FORMS`, e.g. "uniform:-5:20". A path may hold colons. The name of
            a column has %3A for a colon and %25 for a percent sign.

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
    return _PROCESSES.read(text)
