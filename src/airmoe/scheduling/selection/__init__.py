"""Dynamic expert selection, exact: the cheapest experts of each item whose scores suffice."""

from airmoe.scheduling.selection.select import Selection, select_experts

__all__ = ["Selection", "select_experts"]
