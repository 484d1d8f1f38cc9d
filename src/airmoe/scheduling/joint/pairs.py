"""Compiled: the cost of forcing an expert into or out of an item's set, for sets of at most two members.

Shape suffixes: T items, E experts.
"""

import numpy as np
from numpy.typing import NDArray

from airmoe.scheduling.selection.compilation import compiled

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@compiled
def force_pairs(
    scores_TE: Floats,
    energy_TE: Floats,
    need_T: Floats,
    max_experts: int,
    met_T: Flags,
    spare_T: Floats,
    possible_TE: Flags,
    certain_TE: Flags,
) -> None:
    """Mark the experts that an item may have and must have if its set costs at most `spare_T`.

    Writes `possible_TE` and `certain_TE`. Items that do not meet their threshold are skipped.
    """
    experts = scores_TE.shape[1]
    with_E = np.empty(experts)
    for item in range(len(scores_TE)):
        if not met_T[item]:
            continue
        score_E, energy_E, need, spare = scores_TE[item], energy_TE[item], need_T[item], spare_T[item]
        first, second = _cheapest_with(score_E, energy_E, need, max_experts, with_E)
        for expert in range(experts):
            possible_TE[item, expert] |= with_E[expert] <= spare
        for member in (first, second):
            if member >= 0:
                without = _cheapest_without(score_E, energy_E, need, max_experts, member)
                certain_TE[item, member] = not without <= spare


@compiled
def _cheapest_with(
    score_E: Floats, energy_E: Floats, need: float, max_experts: int, with_E: Floats
) -> tuple[int, int]:
    """Write the energy of the cheapest sufficient set with each expert; return the cheapest of all, or -1."""
    best, first, second = np.inf, -1, -1
    with_E[:] = np.inf
    for one in range(score_E.size):
        if score_E[one] >= need:
            with_E[one] = min(with_E[one], energy_E[one])
            if energy_E[one] < best:
                best, first, second = energy_E[one], one, -1
        if max_experts < 2:
            continue
        for other in range(one + 1, score_E.size):
            if score_E[one] + score_E[other] >= need:
                energy = energy_E[one] + energy_E[other]
                with_E[one], with_E[other] = min(with_E[one], energy), min(with_E[other], energy)
                if energy < best:
                    best, first, second = energy, one, other
    return first, second


@compiled
def _cheapest_without(score_E: Floats, energy_E: Floats, need: float, max_experts: int, member: int) -> float:
    """Return the energy of the cheapest sufficient set without an expert; inf if there is none."""
    best = np.inf
    for one in range(score_E.size):
        if one == member:
            continue
        if score_E[one] >= need:
            best = min(best, energy_E[one])
        if max_experts < 2:
            continue
        for other in range(one + 1, score_E.size):
            if other != member and score_E[one] + score_E[other] >= need:
                best = min(best, energy_E[one] + energy_E[other])
    return best
