"""Joint choice of experts and subcarriers: JESA, its lower bounds, and the assignment of subcarriers."""

from airmoe.scheduling.joint.allocation import allocate_subcarriers
from airmoe.scheduling.joint.schedule import Plan, schedule_layer

__all__ = ["Plan", "allocate_subcarriers", "schedule_layer"]
