"""Proofs for the items that the quick search gives up: search with better bounds, match halves, search on.

Shape suffixes: K reachable experts of one item, D max_experts. `solved_D`, `bound_D` and `multiplier_D` are
indexed by a number of experts.
"""

from functools import cache
from types import ModuleType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

EXACT = 1e-9  # what is called exact, relative to the energy
TOLERANCE = 9.5e-10  # tolerance of an item's proof, which leaves room for the rounding of sums over items
NODES_BEFORE_HALVES = 1000  # listing the sets of two halves costs as much as thousands of nodes
# The cores that are halved, and whether halves of all sizes are matched: balanced ones are often enough.
TURNS = ((0, False), (0, True), *((turn, False) for turn in range(1, 8)))


class Proof(NamedTuple):
    """The best set found, its energy, the largest possible distance to the optimum, and the nodes visited."""

    mask_K: NDArray[np.bool_]
    energy_j: float
    gap_j: float
    nodes: int


def prove_set(
    score_K: NDArray[np.float64],
    energy_K: NDArray[np.float64],
    need: float,
    max_experts: int,
    first_K: NDArray[np.bool_],
    node_budget: int,
) -> Proof:
    """Improve a sufficient set until it is proven to be the cheapest, or the budget is spent.

    Args:
        score_K: scores of the reachable experts.
        energy_K: their energies, J, finite.
        need: the least sum of the chosen scores, above 0.
        max_experts: the most experts of a set.
        first_K: the set to improve.
        node_budget: about how many nodes may be visited and sets listed.
    """
    quick_search, dual_search, halves = _searches()
    score_K = np.minimum(score_K, need)
    order_K = np.lexsort((energy_K, -score_K))  # the order of the quick search, which ignores labels
    score_K, energy_K = score_K[order_K], energy_K[order_K]
    dominators_K = quick_search.dominators(energy_K)
    most = min(max_experts, score_K.size)
    chosen_D, other_D = np.zeros(most, np.int64), np.zeros(most, np.int64)
    size = int(first_K.sum())
    chosen_D[:size] = np.flatnonzero(first_K[order_K])
    solved_D = np.zeros(most + 1, np.bool_)
    bound_D, multiplier_D = np.full(most + 1, np.inf), np.zeros(most + 1)

    def search(nodes: int) -> tuple[int, int, float]:
        found: tuple[int, int, float] = dual_search.prove(
            score_K,
            energy_K,
            need,
            dominators_K,
            most,
            nodes,
            solved_D,
            chosen_D,
            size,
            bound_D,
            multiplier_D,
        )
        return found

    size, nodes, bound_j = search(min(max(node_budget, 0), NODES_BEFORE_HALVES))
    best_j = float(energy_K[chosen_D[:size]].sum())
    if bound_j < best_j * (1 - TOLERANCE) and nodes < node_budget:
        for turn, all_sizes in TURNS:
            for experts in np.argsort(bound_D):
                budget = node_budget - nodes
                if solved_D[experts] or bound_D[experts] >= best_j * (1 - TOLERANCE) or budget <= 0:
                    continue
                solved_D[experts], found_j, listed = halves.match_halves(
                    score_K,
                    energy_K,
                    need,
                    experts,
                    best_j,
                    bound_D[experts],
                    multiplier_D[experts],
                    budget,
                    all_sizes,
                    turn,
                    other_D,
                )
                nodes += listed
                if found_j < best_j:
                    best_j, size = found_j, int(experts)
                    chosen_D[:size] = other_D[:size]
        size, more, bound_j = search(max(node_budget - nodes, 0))
        nodes += more
    chosen_K = np.sort(chosen_D[:size])
    best_j = sum(energy_K[chosen_K].tolist())
    mask_K = np.zeros(score_K.size, np.bool_)
    mask_K[order_K[chosen_K]] = True
    gap_j = best_j - bound_j
    return Proof(mask_K, best_j, gap_j if gap_j > TOLERANCE * best_j else 0.0, nodes)


@cache
def _searches() -> tuple[ModuleType, ModuleType, ModuleType]:
    """Import the compiled searches when the first hard item comes."""
    from airmoe.scheduling.selection import dual_search, halves, quick_search

    return quick_search, dual_search, halves
