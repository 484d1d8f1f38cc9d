"""Analog and digital transmission of payloads over noisy links, differentiable. Needs PyTorch."""

from airmoe.radio.digital import Digital
from airmoe.radio.forms import TRANSMISSION_FORMS, make_transmission
from airmoe.radio.transmission import Analog, Transmission

__all__ = ["TRANSMISSION_FORMS", "Analog", "Digital", "Transmission", "make_transmission"]
