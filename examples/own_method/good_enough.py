"""A policy of your own, for every command: --plugin good_enough.py, and --policy good-enough:0.5.

The policy takes the cheapest expert whose score is at least a share of the best one.
"""

import numpy as np

from airmoe.plugins import register
from airmoe.scheduling import Cheapest


@register("policy", "good-enough")
class GoodEnough:
    """The cheapest reachable expert whose score is at least `share` of the best reachable one."""

    share: float = 0.5

    def route(self, scores_TE, cost, slot):
        best_T1 = np.where(cost.reachable_TE, scores_TE, 0.0).max(axis=1, keepdims=True)
        good = cost.where(scores_TE >= self.share * best_T1)
        return Cheapest(1).route(scores_TE, good, slot)
