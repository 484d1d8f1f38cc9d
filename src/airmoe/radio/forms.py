"""Transmissions by name, as the command line and configuration files give them."""

from airmoe.radio.digital import Digital
from airmoe.radio.transmission import Analog, Transmission
from airmoe.spec_text import SpecTexts

_TRANSMISSIONS = SpecTexts[Transmission]("transmission", (Analog, Digital))

TRANSMISSION_FORMS = str(_TRANSMISSIONS)
"""Every form that `make_transmission` reads."""


def make_transmission(spec: str) -> Transmission:
    """Return the transmission of this name; its `name` is the same text in its shortest form.

    Args:
        spec: one of the forms in `TRANSMISSION_FORMS`, e.g. "analog", "analog:2" or "digital:4:qpsk:conv".

    Raises:
        InvalidInputError: an unknown form (the message lists the known ones) or a value out of range.
    """
    return _TRANSMISSIONS.read(spec)
