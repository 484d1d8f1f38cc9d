"""Which experts get each item, and which subcarrier each link: selection, allocation and policies.

NumPy in, NumPy out. Nothing here imports PyTorch; Numba and SciPy are loaded by the functions that use them.
"""

from airmoe.scheduling.allocation import allocate_subcarriers
from airmoe.scheduling.parsing import make_policy
from airmoe.scheduling.policies import All, Des, Local, RandomK, TopK
from airmoe.scheduling.policy import Policy, Routing, Slot
from airmoe.scheduling.pricing import IdealPrice, Price
from airmoe.scheduling.selection import Selection, select_experts

__all__ = [
    "All",
    "Des",
    "IdealPrice",
    "Local",
    "Policy",
    "Price",
    "RandomK",
    "Routing",
    "Selection",
    "Slot",
    "TopK",
    "allocate_subcarriers",
    "make_policy",
    "select_experts",
]
