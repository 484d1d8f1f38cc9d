"""Which experts get each item, and which subcarrier each link: selection, allocation and policies.

NumPy in, NumPy out. Nothing here imports PyTorch; Numba and SciPy are loaded by the functions that use them.
"""

from airmoe.scheduling.allocation import allocate_subcarriers
from airmoe.scheduling.joint import Plan, schedule_layer
from airmoe.scheduling.joint_policies import Homogeneous, Jesa, LowerBound
from airmoe.scheduling.parsing import make_policy
from airmoe.scheduling.policies import All, BestLink, Cheapest, Des, Local, RandomK, TopK, Wlr
from airmoe.scheduling.policy import JointPolicy, Policy, Routing, Slot
from airmoe.scheduling.pricing import NORM_BITS, AirtimePrice, IdealPrice, Price, analog_channel_uses
from airmoe.scheduling.selection import Selection, select_experts

__all__ = [
    "NORM_BITS",
    "AirtimePrice",
    "All",
    "BestLink",
    "Cheapest",
    "Des",
    "Homogeneous",
    "IdealPrice",
    "Jesa",
    "JointPolicy",
    "Local",
    "LowerBound",
    "Plan",
    "Policy",
    "Price",
    "RandomK",
    "Routing",
    "Selection",
    "Slot",
    "TopK",
    "Wlr",
    "allocate_subcarriers",
    "analog_channel_uses",
    "make_policy",
    "schedule_layer",
    "select_experts",
]
