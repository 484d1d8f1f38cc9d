"""The search for the items that the quick search gives up: every node gets a bound of its own.

The number of experts is fixed to 1, 2, ..., D in turn. For each number, a depth-first search solves the
Lagrangian dual of the score row at every node. It drops and takes the experts that the bound decides. It
branches on an expert of the best sufficient set that the best insufficient set lacks. One pass finds the last
two experts.

Shape suffixes: K candidates by score descending then energy ascending, D max_experts, S waiting nodes, F free
candidates of a node. `solved_D`, `bound_D` and `multiplier_D` are indexed by a number of experts.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from airmoe.scheduling.selection.compilation import compiled

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]

# The least relative gain for which another set is searched; exact means to a relative 1e-9.
RELATIVE_GAIN = 9e-10
# Largest rounding error of a reduced-cost sum, relative to the size of its terms.
ROUNDING = 1e-14
MAX_DUAL_STEPS = 50

INSUFFICIENT, SOLVED, OPEN = 0, 1, 2


class Stack(NamedTuple):
    """Waiting nodes: free and taken candidates, how many to add, the score they need, energy, and bound."""

    free_SF: Indices
    free_S: Indices
    taken_SD: Indices
    taken_S: Indices
    left_S: Indices
    need_S: Floats
    spent_S: Floats
    bound_S: Floats


@compiled
def prove(
    score_K: Floats,
    energy_K: Floats,
    need: float,
    dominators_K: Indices,
    most: int,
    node_budget: int,
    solved_D: Flags,
    chosen_D: Indices,
    size: int,
    bound_D: Floats,
    multiplier_D: Floats,
) -> tuple[int, int, float]:
    """Improve the incumbent `chosen_D[:size]` to the optimum, within `node_budget` nodes.

    `dominators_K` counts for each candidate how many others cost no more and score no less.
    The search skips the numbers of experts that `solved_D` marks: no such set is better than the incumbent.
    For each number of experts it writes the bound of the relaxation to `bound_D`, inf if no such set
    suffices, and the multiplier of the score row to `multiplier_D`.

    Returns:
        the size of the best set found (written to `chosen_D`), the visited nodes, and a lower bound on the
        energy, which is the energy of the set itself if it is optimal.
    """
    candidates = score_K.size
    rows = candidates + most + 2
    stack = Stack(
        np.empty((rows, candidates), np.int64),
        np.zeros(rows, np.int64),
        np.empty((rows, most), np.int64),
        np.zeros(rows, np.int64),
        np.zeros(rows, np.int64),
        np.zeros(rows),
        np.zeros(rows),
        np.zeros(rows),
    )
    key_F, order_F = np.empty(candidates), np.empty(candidates + 1, np.int64)
    full_D = np.empty(most, np.int64)
    best = energy_K[chosen_D[:size]].sum()
    nodes = 0
    for left in range(1, most + 1):
        free_F = np.flatnonzero(dominators_K < left)
        status, _, bound, multiplier_D[left], _ = _relax(
            score_K, energy_K, free_F, left, need, key_F, order_F, full_D
        )
        bound -= ROUNDING * (best + multiplier_D[left] * need)
        bound_D[left] = np.inf if status == INSUFFICIENT else bound

    waiting = 0
    for left in np.argsort(-bound_D[1:]) + 1:  # the number of experts with the least bound on top
        if bound_D[left] < np.inf and not solved_D[left]:
            free_F = np.flatnonzero(dominators_K < left)
            stack.free_SF[waiting, : free_F.size], stack.free_S[waiting] = free_F, free_F.size
            stack.left_S[waiting], stack.need_S[waiting] = left, need
            stack.bound_S[waiting] = bound_D[left]
            waiting += 1

    while waiting and nodes < node_budget:
        waiting -= 1
        limit = best * (1.0 - RELATIVE_GAIN)
        if stack.bound_S[waiting] >= limit:
            continue
        nodes += 1
        depth, left, spent = stack.taken_S[waiting], stack.left_S[waiting], stack.spent_S[waiting]
        status, found, bound, multiplier, branch = _examine(
            score_K, energy_K, stack, waiting, key_F, order_F, full_D
        )
        if spent + found < limit:
            best, size = spent + found, depth + left
            chosen_D[:depth] = stack.taken_SD[waiting, :depth]
            chosen_D[depth:size] = full_D[:left]
            limit = best * (1.0 - RELATIVE_GAIN)
        bound += spent - ROUNDING * (best + multiplier * need)
        if status == OPEN and bound < limit:
            stack.bound_S[waiting] = bound
            _branch(score_K, energy_K, stack, waiting, branch, limit - bound, key_F, order_F)
            waiting += 2

    bound = best
    for place in range(waiting):
        bound = min(bound, stack.bound_S[place])
    return size, nodes, bound


@compiled
def _examine(
    score_K: Floats,
    energy_K: Floats,
    stack: Stack,
    node: int,
    key_F: Floats,
    order_F: Indices,
    full_D: Indices,
) -> tuple[int, float, float, float, int]:
    """Solve a node that lacks at most two experts, relax any other; return the same as `_relax`."""
    left, need = stack.left_S[node], stack.need_S[node]
    free_F = stack.free_SF[node, : stack.free_S[node]]
    if left > 2:
        return _relax(score_K, energy_K, free_F, left, need, key_F, order_F, full_D)
    found = np.inf
    if left == 0 and need <= 0.0:
        found = 0.0
    elif left == 1:
        found = _last_one(score_K, energy_K, free_F, need, full_D)
    elif left == 2:
        found = _last_two(score_K, energy_K, free_F, need, order_F, full_D)
    return SOLVED, found, found, 0.0, -1


@compiled
def _branch(
    score_K: Floats,
    energy_K: Floats,
    stack: Stack,
    node: int,
    branch: int,
    slack: float,
    key_F: Floats,
    order_F: Indices,
) -> None:
    """Replace a node by two: one without a candidate, and on top of it one with the candidate.

    A candidate is dropped if taking it raises the bound by `slack` or more. It is taken if dropping it does.
    """
    free_F, free, depth, left = (
        stack.free_SF[node],
        stack.free_S[node],
        stack.taken_S[node],
        stack.left_S[node],
    )
    dearest_in, cheapest_out = key_F[order_F[left - 1]], np.inf
    if free > left:
        cheapest_out = key_F[order_F[left]]
    branching = free_F[branch]
    kept = 0
    for place in range(free):
        candidate, key = free_F[place], key_F[place]
        if candidate == branching or (key > dearest_in and key - dearest_in >= slack):
            continue
        if key < cheapest_out and cheapest_out - key >= slack:
            stack.taken_SD[node, depth] = candidate
            depth += 1
            stack.left_S[node] -= 1
            stack.need_S[node] -= score_K[candidate]
            stack.spent_S[node] += energy_K[candidate]
            continue
        free_F[kept] = candidate
        kept += 1
    stack.free_S[node], stack.taken_S[node] = kept, depth
    above = node + 1
    stack.free_SF[above, :kept], stack.free_S[above] = free_F[:kept], kept
    stack.taken_SD[above, :depth] = stack.taken_SD[node, :depth]
    stack.bound_S[above] = stack.bound_S[node]
    if stack.left_S[node] == 0:  # no expert may be added
        stack.bound_S[above] = np.inf
        return
    stack.taken_SD[above, depth], stack.taken_S[above] = branching, depth + 1
    stack.left_S[above] = stack.left_S[node] - 1
    stack.need_S[above] = stack.need_S[node] - score_K[branching]
    stack.spent_S[above] = stack.spent_S[node] + energy_K[branching]


@compiled
def _relax(
    score_K: Floats, energy_K: Floats, free_F: Indices, left: int, need: float,
    key_F: Floats, order_F: Indices, full_D: Indices,
) -> tuple[int, float, float, float, int]:  # fmt: skip
    """Solve the Lagrangian dual of the score row over sets of exactly `left` free candidates.

    The search holds the best sufficient and the best insufficient set. It tries the multiplier at which both
    cost the same. The cheapest set there replaces one of the two, until no set is cheaper. The reduced costs
    are written to `key_F`, the `left` + 1 cheapest places to `order_F`.

    Returns:
        whether the node is insufficient, solved or open; the energy of the cheapest sufficient set met
        (written to `full_D`); the bound; the multiplier; and a place among the free candidates. At that place
        stands the best-scoring candidate of the sufficient set that the insufficient set lacks.
    """
    count = free_F.size
    if left > count:
        return INSUFFICIENT, np.inf, np.inf, 0.0, -1
    full_D[:left] = free_F[:left]  # scores descend
    full_score, full_energy = score_K[full_D[:left]].sum(), energy_K[full_D[:left]].sum()
    if full_score < need:
        return INSUFFICIENT, np.inf, np.inf, 0.0, -1
    key_F[:count] = energy_K[free_F]
    _cheapest(key_F[:count], left, order_F)
    short_D = order_F[:left].copy()
    short_score, short_energy = score_K[free_F[short_D]].sum(), energy_K[free_F[short_D]].sum()
    if short_score >= need:
        full_D[:left] = free_F[short_D]
        return SOLVED, short_energy, short_energy, 0.0, -1
    multiplier = 0.0
    for _ in range(MAX_DUAL_STEPS):
        multiplier = max((full_energy - short_energy) / (full_score - short_score), 0.0)
        key_F[:count] = energy_K[free_F] - multiplier * score_K[free_F]
        _cheapest(key_F[:count], left, order_F)
        picked_D = free_F[order_F[:left]]
        score, energy = score_K[picked_D].sum(), energy_K[picked_D].sum()
        line = short_energy - multiplier * short_score
        if energy - multiplier * score >= line - ROUNDING * (full_energy + multiplier * full_score):
            break
        if score >= need:
            full_score, full_energy = score, energy
            full_D[:left] = picked_D
        else:
            short_score, short_energy = score, energy
            short_D[:] = order_F[:left]
    value = min(energy - multiplier * score, short_energy - multiplier * short_score)
    branch = _first_difference(free_F, full_D[:left], short_D)
    return OPEN, full_energy, value + multiplier * need, multiplier, branch


@compiled
def _first_difference(free_F: Indices, full_D: Indices, short_D: Indices) -> int:
    """Return the first free place whose candidate is in `full_D` and that is not in `short_D`."""
    state_F = np.zeros(free_F.size, np.int64)
    for candidate in full_D:
        state_F[np.searchsorted(free_F, candidate)] = 1
    for place in short_D:
        state_F[place] = 0
    return int(np.argmax(state_F))


@compiled
def _cheapest(key_F: Floats, left: int, order_F: Indices) -> None:
    """Write the places of the `left` + 1 (or all) smallest keys, ascending; ties to the earlier place."""
    wanted = min(left + 1, key_F.size)
    filled = 0
    for place in range(key_F.size):
        key = key_F[place]
        if filled == wanted and key >= key_F[order_F[wanted - 1]]:
            continue
        at = filled if filled < wanted else wanted - 1
        while at > 0 and key_F[order_F[at - 1]] > key:
            order_F[at] = order_F[at - 1]
            at -= 1
        order_F[at] = place
        filled = min(filled + 1, wanted)


@compiled
def _last_one(score_K: Floats, energy_K: Floats, free_F: Indices, need: float, full_D: Indices) -> float:
    """Write the cheapest sufficient free candidate and return its energy; inf if there is none."""
    best = np.inf
    for candidate in free_F:
        if score_K[candidate] < need:
            break
        if energy_K[candidate] < best:
            best, full_D[0] = energy_K[candidate], candidate
    return best


@compiled
def _last_two(
    score_K: Floats, energy_K: Floats, free_F: Indices, need: float, cheapest_F: Indices, full_D: Indices
) -> float:
    """Write the cheapest sufficient pair of free candidates and return its energy; inf if there is none."""
    best, reach = np.inf, free_F.size
    cheapest_F[0] = 0  # place of the cheapest of those up to here
    for place in range(1, free_F.size):
        before, low = cheapest_F[place - 1], free_F[place]
        cheapest_F[place] = place if energy_K[low] < energy_K[free_F[before]] else before
        # The first `reach` candidates score enough to join this one.
        while reach > 0 and score_K[free_F[reach - 1]] + score_K[low] < need:
            reach -= 1
        if reach == 0:
            break
        high = free_F[cheapest_F[min(reach, place) - 1]]
        if energy_K[high] + energy_K[low] < best:
            best, full_D[0], full_D[1] = energy_K[high] + energy_K[low], high, low
    return best
