"""Experts and subcarriers of one layer, chosen together: what that saves, and how good it is known to be.

Eight nodes hold 32 items; each link between two nodes can have one of 64 subcarriers.
"""

import numpy as np

from airmoe.dispatch import IdealPrice
from airmoe.links import Ofdma, RayleighFading
from airmoe.scheduling import Slot, schedule_layer, select_experts

rng, radio = np.random.default_rng(0), Ofdma(subcarriers=64)
scores_TE = rng.dirichlet(np.full(8, 0.3), size=32)
slot = Slot(rng.integers(0, 8, 32), np.arange(8), RayleighFading(8, radio).at(0), bits_T=np.full(32, 65536))

# Experts alone, over one standing assignment of subcarriers to all links.
energy_j_TE = IdealPrice(slot.links)(slot).quoted.energy_j_TE
alone = select_experts(scores_TE, energy_j_TE, threshold=0.5, max_experts=2)
print(f"selection alone: {alone.energy_j.sum():.5e} J")

plan = schedule_layer(scores_TE, slot.source_T, slot.links.gain_NNM, radio, bound="tight", restarts=10)
print(f"with subcarriers: {plan.energy_j:.5e} J, at most {plan.gap:.2%} above the optimum")
print(f"subcarrier of link 0 -> 1: {plan.subcarrier[0, 1]}")
