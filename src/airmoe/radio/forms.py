"""Transmissions from texts, as the command line and configuration files give them."""

from airmoe.radio.digital import Digital
from airmoe.radio.transmission import Analog, Transmission
from airmoe.spec_text import SpecTexts

_TRANSMISSIONS = SpecTexts[Transmission]("transmission", (Analog, Digital))

TRANSMISSION_FORMS = str(_TRANSMISSIONS)
"""Every form that `make_transmission` reads."""


def make_transmission(spec: str) -> Transmission:
    """Return the transmission that a text describes; its `name` is the same text in its shortest form.

    Args:
        spec: one of the forms in `TRANSMISSION_FORMS`, e.g. "analog", "analog:2" or "digital:4:qpsk:conv".

    Raises:
        InvalidInputError: the form is unknown (the message lists all forms), or a value is out of range.

    Examples:
        >>> from airmoe.radio import make_transmission
        >>> make_transmission("digital:4:qpsk:conv")
        Digital(bits=4, modulation='qpsk', code='conv', chain='fast')
        >>> make_transmission("analog:1").name
        'analog'
    """
    return _TRANSMISSIONS.read(spec)
