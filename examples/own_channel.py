"""A channel matrix of your own: which experts each item goes to, and what the transfers cost.

Three nodes stand in a row, each with one expert. Power falls with the cube of the distance, and every
subcarrier fades on its own. Put a measured (N, N, M) array in place of `gain_NNM` to use your own site.
"""

import numpy as np

from airmoe.dispatch import IdealPrice
from airmoe.links import Links, Ofdma
from airmoe.scheduling import Slot, select_experts

position_m = np.array([0.0, 100.0, 250.0])
distance_NN = np.abs(position_m[:, None] - position_m) + np.eye(3)
gain_NNM = 1e-4 * distance_NN[:, :, None] ** -3 * np.random.default_rng(0).exponential(size=(3, 3, 8))

links = Links.from_gain(gain_NNM, Ofdma(subcarriers=8))
slot = Slot(
    source_T=np.array([0, 0, 1, 2]), placement=np.arange(3), links=links, bits_T=np.full(4, 400 * 32 + 32)
)
energy_j_TE = IdealPrice(links)(slot).quoted.energy_j_TE
scores_TE = np.array([[0.8, 0.1, 0.1], [0.1, 0.45, 0.45], [0.3, 0.1, 0.6], [0.4, 0.5, 0.1]])
chosen = select_experts(scores_TE, energy_j_TE, threshold=0.6, max_experts=2)
for item, mask_E in enumerate(chosen.mask):
    experts = ", ".join(map(str, np.flatnonzero(mask_E)))
    print(f"item {item} at node {slot.source_T[item]}: experts {experts}: {chosen.energy_j[item]:.4e} J")
