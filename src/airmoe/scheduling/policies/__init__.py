"""Policies: at an item's source alone, or jointly for all sources with their subcarriers."""

from airmoe.scheduling.policies.at_source import All, BestLink, Cheapest, Des, Local, RandomK, TopK, Wlr
from airmoe.scheduling.policies.jointly import Homogeneous, Jesa
from airmoe.scheduling.policies.requirement import Requirement

__all__ = [
    "All",
    "BestLink",
    "Cheapest",
    "Des",
    "Homogeneous",
    "Jesa",
    "Local",
    "RandomK",
    "Requirement",
    "TopK",
    "Wlr",
]
