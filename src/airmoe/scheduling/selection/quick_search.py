"""The quick compiled search behind `select_experts`: enumeration up to two experts, branch and bound beyond.

The problem is P1 of arXiv 2503.13421, a covering knapsack with a cardinality row. The search is serial and
deterministic. It first sorts the experts of every row by score descending, then energy ascending. So
relabelling experts changes neither the energy nor the visited nodes. A row that needs more nodes than its
budget goes to `hard_items`, with the best set met so far.

Shape suffixes: T items, E experts, K candidates (sorted reachable experts of an item), D max_experts. Within
a row `score_K` is t capped at the need, `energy_K` is e, and `chosen_D` holds indices of candidates.
"""

import numpy as np
from numpy.typing import NDArray

from airmoe.scheduling.selection.compilation import compiled

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]
Sieve = tuple[float, float]

# The least relative gain for which another set is searched; exact means to a relative 1e-9.
RELATIVE_GAIN = 9e-10
# Largest rounding error of a reduced-cost sum, relative to its terms.
ROUNDING = 1e-14
# The dual is piecewise linear with few pieces; it usually needs 5 to 10 steps. Any multiplier is valid.
MAX_DUAL_STEPS = 50
# The most experts among which pairs are tried without sorting.
MOST_UNSORTED = 32
# The fewest experts of which most are dropped before the rest is sorted.
FEWEST_SIFTED = 48


@compiled
def select_rows(
    scores_TE: Floats,
    energy_TE: Floats,
    need_T: Floats,
    max_experts: int,
    most_nodes: int,
    mask_TE: Flags,
    energy_T: Floats,
    feasible_T: Flags,
    nodes_T: Indices,
    proven_T: Flags,
) -> None:
    """Solve P1 for every row; write the last five arrays (`mask_TE` must be all False before).

    `need_T` is the threshold less the tolerance. A row stays unproven if its search would take more than
    `most_nodes` nodes.
    """
    items, experts = scores_TE.shape
    expert_K = np.empty(experts, np.int64)
    score_K = np.empty(experts)
    energy_K = np.empty(experts)
    chosen_D, best_D = np.empty(max_experts, np.int64), np.empty(max_experts)
    for item in range(items):
        need = need_T[item]
        if max_experts <= 2 and experts <= MOST_UNSORTED and need > 0.0:
            first, second, energy = _cheapest_pair(scores_TE[item], energy_TE[item], need, max_experts)
            if first >= 0:
                mask_TE[item, first] = mask_TE[item, max(first, second)] = True
                energy_T[item], feasible_T[item], proven_T[item] = energy, True, True
                nodes_T[item] = experts * (experts + 1) // 2 if max_experts == 2 else experts
                continue
        sieve = np.inf, -1.0
        if experts >= FEWEST_SIFTED:
            sieve = _sieve(scores_TE[item], energy_TE[item], max(need, 0.0), best_D)
        row = expert_K, score_K, energy_K
        candidates = _sort_reachable(scores_TE[item], energy_TE[item], need, sieve, row)
        if candidates == 0:
            energy_T[item], feasible_T[item], nodes_T[item], proven_T[item] = np.inf, False, 0, True
            continue
        most = min(max_experts, candidates)
        size, feasible, nodes, proven_T[item] = _solve(
            score_K[:candidates], energy_K[:candidates], need, most, most_nodes, chosen_D
        )
        for position in chosen_D[:size]:
            mask_TE[item, expert_K[position]] = True
        total = 0.0
        for position in range(candidates):  # in the row's own order, for a sum without labels
            if mask_TE[item, expert_K[position]]:
                total += energy_K[position]
        energy_T[item], feasible_T[item], nodes_T[item] = total, feasible, nodes


@compiled
def _cheapest_pair(
    scores_E: Floats, energy_E: Floats, need: float, max_experts: int
) -> tuple[int, int, float]:
    """Return the cheapest sufficient set of one or two experts and its energy; -1 where there is none.

    Among few experts, trying all pairs is faster than sorting them first.
    """
    best, first, second = np.inf, -1, -1
    for one in range(scores_E.size):
        if scores_E[one] >= need and energy_E[one] < best:
            best, first = energy_E[one], one
    if max_experts == 2:
        for one in range(scores_E.size):
            score, energy = scores_E[one], energy_E[one]
            if energy >= best:  # a pair costs no less
                continue
            for other in range(one + 1, scores_E.size):
                if energy + energy_E[other] < best and score + scores_E[other] >= need:
                    best, first, second = energy + energy_E[other], one, other
    return first, second, best


@compiled
def _sieve(scores_E: Floats, energy_E: Floats, most: float, best_D: Floats) -> Sieve:
    """Return an energy and a score such that D experts cost less and score at least as much.

    Those D experts dominate any expert that costs at least this energy and scores at most this score. `most`
    caps the scores.
    """
    cut = np.inf
    for _ in range(2):  # the mean, then the mean of all below it
        total, count = 0.0, 0
        for energy in energy_E:
            if energy < cut:
                total += energy
                count += 1
        cut = total / max(count, 1)
    best_D[:] = -1.0
    for expert in range(scores_E.size):
        score = min(scores_E[expert], most)
        if energy_E[expert] < cut and score > best_D[-1]:
            place = best_D.size - 1
            while place > 0 and best_D[place - 1] < score:
                best_D[place] = best_D[place - 1]
                place -= 1
            best_D[place] = score
    return cut, best_D[-1]


@compiled
def _sort_reachable(
    scores_E: Floats, energy_E: Floats, need: float, sieve: Sieve, row: tuple[Indices, Floats, Floats]
) -> int:
    """Write the reachable experts by score descending, energy ascending; return how many there are.

    Experts that the sieve shows to be dominated are left out. Scores are capped at the need, since more is
    worth no more; that strengthens every bound.
    """
    (dear, least), (expert_K, score_K, energy_K), count = sieve, row, 0
    for expert in range(scores_E.size):
        energy = energy_E[expert]
        if energy == np.inf:
            continue
        score = min(scores_E[expert], max(need, 0.0))
        if energy >= dear and score <= least:
            continue
        place = count
        while place > 0 and (
            score_K[place - 1] < score or (score_K[place - 1] == score and energy_K[place - 1] > energy)
        ):
            expert_K[place] = expert_K[place - 1]
            score_K[place] = score_K[place - 1]
            energy_K[place] = energy_K[place - 1]
            place -= 1
        expert_K[place], score_K[place], energy_K[place] = expert, score, energy
        count += 1
    return count


@compiled
def _solve(
    score_K: Floats, energy_K: Floats, need: float, most: int, most_nodes: int, chosen_D: Indices
) -> tuple[int, bool, int, bool]:
    """Write the cheapest sufficient set into `chosen_D`.

    Returns:
        its size, whether it suffices, the visited nodes, and whether it is proven to be the cheapest.
    """
    if need <= 0.0:
        chosen_D[0] = np.argmin(energy_K)
        return 1, True, energy_K.size, True
    chosen_D[:most] = np.arange(most)  # the best scores: the fallback, and the first incumbent
    if score_K[:most].sum() < need:
        return most, False, 1, True
    if most <= 2:
        size, nodes = _enumerate(score_K, energy_K, need, most, chosen_D)
        return size, True, nodes, True
    size, nodes, proven = _branch_and_bound(score_K, energy_K, need, most, most_nodes, chosen_D)
    return size, True, nodes, proven


@compiled
def _enumerate(
    score_K: Floats, energy_K: Floats, need: float, most: int, chosen_D: Indices
) -> tuple[int, int]:
    """Try all singles and pairs; scores descend, so each loop ends at the first set that falls short."""
    size, nodes = most, 0
    best = energy_K[:most].sum()
    for first in range(score_K.size):
        nodes += 1
        if score_K[first] >= need:
            if energy_K[first] < best:
                best, size, chosen_D[0] = energy_K[first], 1, first
        elif most == 1:
            break
        if most == 2:
            for second in range(first + 1, score_K.size):
                nodes += 1
                if score_K[first] + score_K[second] < need:
                    break
                if energy_K[first] + energy_K[second] < best:
                    best, size = energy_K[first] + energy_K[second], 2
                    chosen_D[0], chosen_D[1] = first, second
    return size, nodes


@compiled
def _branch_and_bound(
    score_K: Floats, energy_K: Floats, need: float, most: int, most_nodes: int, chosen_D: Indices
) -> tuple[int, int, bool]:
    """Improve the incumbent in `chosen_D`; return its size, the visited nodes, and whether it is optimal.

    Candidates are taken by ascending reduced cost e - lambda t. A set that falls short needs at least one of
    the remaining candidates, and at most r. The cheapest remaining one, plus up to r - 1 more with negative
    reduced cost, bounds its energy. The r largest remaining scores tell whether it can suffice.
    """
    kept_K = np.flatnonzero(dominators(energy_K) < most)
    score_K, energy_K = score_K[kept_K], energy_K[kept_K]
    size, best, multiplier, order_K = _dual(score_K, energy_K, need, most, chosen_D)
    size, best = _exchange(score_K, energy_K, need, most, chosen_D, size, best)

    count = order_K.size
    score_K, energy_K = score_K[order_K], energy_K[order_K]
    reduced_K = energy_K - multiplier * score_K
    saving_K = np.zeros(count + 1)  # sum of the negative reduced costs before each candidate
    for position in range(count):
        saving_K[position + 1] = saving_K[position] + min(reduced_K[position], 0.0)
    largest_KD = _largest_left(score_K, most)
    base = multiplier * need - ROUNDING * (best + multiplier * (need + largest_KD[0, most]))

    taken_D = np.empty(most, np.int64)
    score_D, energy_D, reduced_D = np.zeros(most + 1), np.zeros(most + 1), np.zeros(most + 1)
    limit = best * (1.0 - RELATIVE_GAIN)
    depth, position, nodes, improved, proven = 0, 0, 1, False, True
    while best > 0.0:
        if nodes >= most_nodes:
            proven = False
            break
        left = most - depth
        open_ = position < count and left > 0
        if open_:
            last = min(position + left, count)
            bound = base + reduced_D[depth] + reduced_K[position] + saving_K[last] - saving_K[position + 1]
            # The margin keeps a set whose sum rounds down; what is taken must suffice as summed.
            open_ = bound < limit and score_D[depth] + largest_KD[position, left] >= need * (1.0 - ROUNDING)
        if open_:
            nodes += 1
            taken_D[depth] = position
            score_D[depth + 1] = score_D[depth] + score_K[position]
            energy_D[depth + 1] = energy_D[depth] + energy_K[position]
            reduced_D[depth + 1] = reduced_D[depth] + reduced_K[position]
            depth += 1
            position += 1
            sufficient = score_D[depth] >= need
            if sufficient and energy_D[depth] < limit:
                best, size, improved = energy_D[depth], depth, True
                limit = best * (1.0 - RELATIVE_GAIN)
                chosen_D[:size] = taken_D[:size]
            if not (sufficient or energy_D[depth] >= limit):
                continue
        elif depth == 0:
            break
        depth -= 1
        position = taken_D[depth] + 1
    for place in range(size):
        chosen_D[place] = kept_K[order_K[chosen_D[place]]] if improved else kept_K[chosen_D[place]]
    return size, nodes, proven


@compiled
def dominators(energy_K: Floats) -> Indices:
    """Return for each candidate how many others cost no more and score no less.

    A set of at most D needs no candidate with D of them.
    """
    count_K = np.zeros(energy_K.size, np.int64)
    for position in range(energy_K.size):
        for other in range(position):  # all of these score at least as much
            count_K[position] += energy_K[other] <= energy_K[position]
    return count_K


@compiled
def _dual(
    score_K: Floats, energy_K: Floats, need: float, most: int, chosen_D: Indices
) -> tuple[int, float, float, Indices]:
    """Solve the Lagrangian dual of the score row by line intersection.

    The search holds the best sufficient and the best insufficient set. It tries the multiplier at which both
    cost the same. The cheapest set there replaces one of the two, until no set is cheaper.

    Returns:
        the size and energy of the cheapest sufficient set met (written to `chosen_D`), the multiplier, and
        the candidates by ascending reduced cost under it.
    """
    size, best = most, energy_K[:most].sum()
    short_score, short_energy = 0.0, 0.0
    full_score, full_energy = score_K[:most].sum(), best
    multiplier = 0.0
    order_K = np.arange(energy_K.size)
    for _ in range(MAX_DUAL_STEPS):
        if not (full_energy > short_energy and full_score > short_score):
            break
        multiplier = (full_energy - short_energy) / (full_score - short_score)
        reduced_K = energy_K - multiplier * score_K
        _sort_by(reduced_K, order_K)
        picked, score, energy = 0, 0.0, 0.0
        while picked < most and reduced_K[order_K[picked]] < 0.0:
            score += score_K[order_K[picked]]
            energy += energy_K[order_K[picked]]
            picked += 1
        line = short_energy - multiplier * short_score
        if energy - multiplier * score >= line - ROUNDING * (full_energy + multiplier * full_score):
            break
        if score >= need:
            full_score, full_energy = score, energy
            if energy < best:
                size, best = picked, energy
                chosen_D[:size] = order_K[:size]
        else:
            short_score, short_energy = score, energy
    return size, best, multiplier, order_K


@compiled
def _sort_by(key_K: Floats, order_K: Indices) -> None:
    """Sort the candidates in `order_K` by ascending key; by insertion, since they are nearly in order."""
    for sorted_ in range(1, order_K.size):
        candidate = order_K[sorted_]
        place = sorted_
        while place > 0 and key_K[order_K[place - 1]] > key_K[candidate]:
            order_K[place] = order_K[place - 1]
            place -= 1
        order_K[place] = candidate


@compiled
def _exchange(
    score_K: Floats, energy_K: Floats, need: float, most: int, chosen_D: Indices, size: int, best: float
) -> tuple[int, float]:
    """Exchange a chosen candidate for a cheaper one, or drop it, as long as the set still suffices."""
    inside_K = np.zeros(score_K.size, np.bool_)
    inside_K[chosen_D[:size]] = True
    while True:
        total = 0.0
        for place in range(size):
            total += score_K[chosen_D[place]]
        saved, leaving, entering = best * RELATIVE_GAIN, -1, -1
        for place in range(size):
            score_left = total - score_K[chosen_D[place]]
            energy_out = energy_K[chosen_D[place]]
            if size > 1 and score_left >= need and energy_out > saved:
                saved, leaving, entering = energy_out, place, -1
            for candidate in range(score_K.size):
                if score_left + score_K[candidate] < need:
                    break  # scores descend
                if not inside_K[candidate] and energy_out - energy_K[candidate] > saved:
                    saved, leaving, entering = energy_out - energy_K[candidate], place, candidate
        if leaving < 0:
            return size, best
        inside_K[chosen_D[leaving]] = False
        if entering < 0:
            size -= 1
            chosen_D[leaving] = chosen_D[size]
        else:
            chosen_D[leaving] = entering
            inside_K[entering] = True
        best = 0.0
        for place in range(size):
            best += energy_K[chosen_D[place]]


@compiled
def _largest_left(score_K: Floats, most: int) -> Floats:
    """Return (K + 1, D + 1), the sum of the d largest scores from each candidate on."""
    count = score_K.size
    sums_KD = np.zeros((count + 1, most + 1))
    top_D = np.zeros(most)
    for position in range(count - 1, -1, -1):
        score = score_K[position]
        for place in range(most):
            if score > top_D[place]:
                score, top_D[place] = top_D[place], score
        for place in range(most):
            sums_KD[position, place + 1] = sums_KD[position, place] + top_D[place]
    return sums_KD
