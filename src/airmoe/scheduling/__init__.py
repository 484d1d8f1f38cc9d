"""Which experts get each item, and which subcarrier each link: selection, allocation and policies.

NumPy in, NumPy out. Nothing here imports PyTorch; Numba and SciPy are loaded by the functions that use them.
"""

from airmoe.scheduling.cost import Cost
from airmoe.scheduling.joint.allocation import allocate_subcarriers
from airmoe.scheduling.joint.schedule import Plan, schedule_layer
from airmoe.scheduling.parsing import make_policy
from airmoe.scheduling.placement import Placement
from airmoe.scheduling.policies.at_source import All, BestLink, Cheapest, Des, Local, RandomK, TopK, Wlr
from airmoe.scheduling.policies.jointly import Homogeneous, Jesa
from airmoe.scheduling.policies.requirement import Requirement
from airmoe.scheduling.policy import JointPolicy, Policy, Routing, Slot, routing_of
from airmoe.scheduling.selection.select import Selection, select_experts

__all__ = [
    "All",
    "BestLink",
    "Cheapest",
    "Cost",
    "Des",
    "Homogeneous",
    "Jesa",
    "JointPolicy",
    "Local",
    "Placement",
    "Plan",
    "Policy",
    "RandomK",
    "Requirement",
    "Routing",
    "Selection",
    "Slot",
    "TopK",
    "Wlr",
    "allocate_subcarriers",
    "make_policy",
    "routing_of",
    "schedule_layer",
    "select_experts",
]
