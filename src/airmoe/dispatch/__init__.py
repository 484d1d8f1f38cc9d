"""Route a batch, carry it, mix what arrived: the loop that simulation and mesh share. NumPy only."""

from airmoe.dispatch.cost import NORM_BITS, AirtimePrice, IdealPrice, Price, analog_channel_uses
from airmoe.dispatch.loop import Carrier, Delivery, Dispatched, dispatch

__all__ = [
    "NORM_BITS",
    "AirtimePrice",
    "Carrier",
    "Delivery",
    "Dispatched",
    "IdealPrice",
    "Price",
    "analog_channel_uses",
    "dispatch",
]
