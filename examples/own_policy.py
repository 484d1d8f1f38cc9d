"""A policy of your own: any class with `name`, `joint` and `route` can decide who serves what.

This one takes the cheapest expert whose score is at least half of the best, and is held against top-1.
"""

import numpy as np
import torch

from airmoe.links import Ofdma, RayleighFading
from airmoe.nn import IdealRadioCarrier, build_model
from airmoe.scheduling import Cheapest, TopK


class CheapestGood:
    """The cheapest reachable expert whose score is at least half of the best reachable one."""

    name, joint = "cheapest-good", False

    def route(self, scores_TE, cost, slot):
        best_T1 = np.where(cost.reachable_TE, scores_TE, 0.0).max(axis=1, keepdims=True)
        good = cost.where(scores_TE >= best_T1 / 2)
        return Cheapest(1).route(scores_TE, good, slot)


torch.manual_seed(0)
model = build_model("lenet5", classes=10, experts=4, channels=1).eval()
torch.nn.init.normal_(model.layer.gate.linear.weight, std=0.05)  # in place of training
carrier = IdealRadioCarrier(RayleighFading(nodes=4, radio=Ofdma(subcarriers=16)).at(0))
images_TCHW, source_T = torch.rand(64, 1, 32, 32), np.arange(64) % 4
for policy in (TopK(1), CheapestGood()):
    answer = model(images_TCHW, source_T, policy=policy, carrier=carrier)
    print(f"{policy.name}: {answer.dispatched.energy_j_T.sum():.4e} J")
