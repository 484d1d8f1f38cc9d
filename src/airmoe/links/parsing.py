"""SNR processes by name, as the command line and configuration files give them."""

from airmoe.links.fading_processes import GaussMarkovSnr, JakesSnr, RayleighSnr, RicianSnr
from airmoe.links.path_loss import ShadowedPathLossSnr
from airmoe.links.processes import FixedSnr, OneBadSnr, SnrProcess, SpreadSnr, UniformSnr
from airmoe.links.tdl import TdlSnr
from airmoe.links.traces import OTHER_COLUMN, TraceSnr
from airmoe.spec_text import SpecTexts

_KNOWN = (
    *(FixedSnr, UniformSnr, SpreadSnr, OneBadSnr, RayleighSnr, RicianSnr, GaussMarkovSnr, JakesSnr),
    *(ShadowedPathLossSnr, TdlSnr, TraceSnr, OTHER_COLUMN),
)
_PROCESSES = SpecTexts[SnrProcess]("channel", _KNOWN)

PROCESS_FORMS = str(_PROCESSES)
"""Every form that `make_process` reads."""


def make_process(text: str) -> SnrProcess:
    """Return the process of this name; its `name` is the same text in its shortest form.

    Args:
        text: one of the forms in `PROCESS_FORMS`, e.g. "uniform:-5:20". A path may hold colons. The name of
            a column has %3A for a colon and %25 for a percent sign.

    Raises:
        InvalidInputError: an unknown name (the message lists the known ones) or a parameter out of range.
        DataError: a trace cannot be read.
    """
    return _PROCESSES.read(text)
