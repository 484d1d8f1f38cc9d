"""Route a batch, carry it, mix what arrived: the loop that simulation and mesh share. NumPy only.

`dispatch` asks a policy who serves what, has a carrier bring payloads there, and routes again around what was
lost. A carrier of your own needs five short members; see `Carrier`. `LossyCarrier` loses what you say.
"""

from airmoe.dispatch.carrier import Carrier, Delivery, Price, Transfer
from airmoe.dispatch.cost import NORM_BITS, AirtimePrice, IdealPrice, analog_channel_uses, side_uses, snr_met
from airmoe.dispatch.loop import Dispatched, degraded, dispatch, reached_share
from airmoe.dispatch.lossy import LossyCarrier, ManualClock
from airmoe.dispatch.reach import why_out_of_reach
from airmoe.dispatch.replicas import nearest
from airmoe.dispatch.without import WithoutNodes

__all__ = [
    "NORM_BITS",
    "AirtimePrice",
    "Carrier",
    "Delivery",
    "Dispatched",
    "IdealPrice",
    "LossyCarrier",
    "ManualClock",
    "Price",
    "Transfer",
    "WithoutNodes",
    "analog_channel_uses",
    "degraded",
    "dispatch",
    "nearest",
    "reached_share",
    "side_uses",
    "snr_met",
    "why_out_of_reach",
]
