"""Meet in the middle: list the sets of two halves of the candidates and match them.

The method is exact if all sets that matter can be listed, whatever the energies. If energies follow scores (a
subset-sum problem), no bound helps a search. But then there are so many sets that the balanced ones of a core
usually contain one within rounding of the bound.

Shape suffixes: K candidates by score descending then energy ascending, F the candidates of a group, X
listed sets of one half: by size, then by score and energy descending. `start_D` is indexed by a number of
experts.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from airmoe.scheduling.selection.compilation import compiled

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

# The least relative gain for which another set is searched; exact means to a relative 1e-9.
RELATIVE_GAIN = 9e-10
# Largest rounding error of a sum of scores, relative to the need.
ROUNDING = 1e-14
# The most sets of one half: of the same number of members, to fit in a cache, and in all, to fit in memory.
MOST_SETS = 1 << 18
MOST_SETS_IN_ALL = 1 << 20
MOST_IN_A_HALF = 60  # members of a set are bits of one integer


class Sets(NamedTuple):
    """Sets of one half; those of d members lie from `start_D[d]` to `start_D[d + 1]`."""

    start_D: Indices
    score_X: Floats
    energy_X: Floats
    members_X: Indices


@compiled
def match_halves(
    score_K: Floats,
    energy_K: Floats,
    need: float,
    left: int,
    best: float,
    bound: float,
    multiplier: float,
    most_sets: int,
    all_sizes: bool,
    turn: int,
    chosen_D: Indices,
) -> tuple[bool, float, int]:
    """Look for a sufficient set of exactly `left` candidates that is cheaper than `best`.

    If there are too many candidates, only a core is matched: those whose reduced costs are nearest to the
    margin. The others stay in or out as in the relaxation, and nothing is proven.

    Args:
        bound: a lower bound on the energy; matching ends when it is reached.
        multiplier: multiplier of the score row, from the relaxation.
        most_sets: how many sets of each half may be listed.
        all_sizes: match halves of all sizes and not only balanced ones, which takes more sets.
        turn: the number of the core, if there are too many candidates.

    Returns:
        whether no other set of `left` candidates can be better, the energy found (inf if none is below
        `best`; its members are written to `chosen_D`), and the number of listed sets.
    """
    count = score_K.size
    core = min(_core_size(left, min(most_sets, MOST_SETS)), count)
    whole = core == count
    if core < 2 or (turn > 0 and whole):
        return False, np.inf, 0
    inside_K = np.ones(count, np.bool_)
    spent = 0.0
    if not whole:
        key_K = energy_K - multiplier * score_K
        order_K = np.argsort(key_K)
        nearest_K = np.argsort(np.abs(key_K - key_K[order_K[left - 1]]))
        inside_K[np.roll(nearest_K, turn * core // 4)[core:]] = False
        for candidate in order_K[:left]:
            if not inside_K[candidate]:
                left -= 1
                chosen_D[left] = candidate
                need -= score_K[candidate]
                spent += energy_K[candidate]
    core_F = np.flatnonzero(inside_K)
    even_F, odd_F = core_F[0::2], core_F[1::2]
    most = left if all_sizes else (left + 1) // 2
    even = _list_sets(score_K, energy_K, even_F, odd_F, left, most, need, best - spent, most_sets)
    odd = _list_sets(score_K, energy_K, odd_F, even_F, left, most, need, best - spent, most_sets)
    found = np.inf
    members_even = members_odd = 0
    for step in range(2 * left + 2):  # the balanced halves first: they have most sets
        in_even = left // 2 + ((step + 1) // 2 if step % 2 else -((step + 1) // 2))
        in_odd = left - in_even
        if in_even < 0 or in_odd < 0 or in_even > even_F.size or in_odd > odd_F.size:
            continue
        if in_even >= even.start_D.size - 1 or in_odd >= odd.start_D.size - 1:
            whole = False  # too many to list
            continue
        energy, one, other = _match(even, odd, in_even, in_odd, need, best - spent)
        if spent + energy < best:
            best = found = spent + energy
            members_even, members_odd = even.members_X[one], odd.members_X[other]
        if best * (1.0 - RELATIVE_GAIN) <= bound:
            break
    if found < np.inf:
        size = _write_members(members_even, even_F, chosen_D, 0)
        _write_members(members_odd, odd_F, chosen_D, size)
    return whole, found, even.start_D[-1] + odd.start_D[-1]


@compiled
def _core_size(left: int, most_sets: int) -> int:
    """Return the most candidates of which both halves have few enough sets of `left` / 2 to be listed."""
    half = 1
    while half < MOST_IN_A_HALF:
        sets = 1.0
        for member in range(min((left + 1) // 2, (half + 1) // 2)):
            sets *= (half + 1 - member) / (member + 1)
        if sets > most_sets:
            break
        half += 1
    return 2 * half


@compiled
def _match(
    even: Sets, odd: Sets, in_even: int, in_odd: int, need: float, best: float
) -> tuple[float, int, int]:
    """Return the energy and places of the cheapest sufficient pair of sets of these sizes below `best`."""
    found, place_even, place_odd = np.inf, -1, -1
    first, other = odd.start_D[in_odd], odd.start_D[in_odd + 1] - 1
    for one in range(even.start_D[in_even], even.start_D[in_even + 1]):
        # Scores and energies descend: as one set gets worse, its cheapest match gets better.
        while other >= first and even.score_X[one] + odd.score_X[other] < need:
            other -= 1
        if other < first:
            break
        energy = even.energy_X[one] + odd.energy_X[other]
        if energy < best:
            best = found = energy
            place_even, place_odd = one, other
    return found, place_even, place_odd


@compiled
def _write_members(members: int, half_F: Indices, chosen_D: Indices, size: int) -> int:
    for bit in range(half_F.size):
        if members >> bit & 1:
            chosen_D[size] = half_F[bit]
            size += 1
    return size


@compiled
def _list_sets(
    score_K: Floats,
    energy_K: Floats,
    half_F: Indices,
    other_F: Indices,
    left: int,
    most: int,
    need: float,
    dearest: float,
    most_sets: int,
) -> Sets:
    """List the sets of a half that matter, of each size up to `most`, or up to a smaller size if too many.

    A set does not matter if another of its size costs no more and scores no less. Neither does a set that
    costs more than `dearest`, or that even the best-scoring candidates cannot complete to a sufficient set.
    """
    room = min(most_sets, MOST_SETS_IN_ALL) + 1
    new = Sets(np.zeros(most + 2, np.int64), np.empty(room), np.empty(room), np.empty(room, np.int64))
    old = Sets(np.zeros(most + 2, np.int64), np.empty(room), np.empty(room), np.empty(room, np.int64))
    rest_D = np.zeros(left + 1)
    new.start_D[1] = 1  # the empty set
    new.score_X[0] = new.energy_X[0] = 0.0
    new.members_X[0] = 0
    sizes, most_sizes = 1, most + 1
    for bit in range(half_F.size):
        new, old = old, new
        new.start_D[1] = 1
        new.score_X[0] = new.energy_X[0] = 0.0
        new.members_X[0] = 0
        old.start_D[sizes + 1 :] = old.start_D[sizes]  # no sets of further sizes yet
        sizes = min(sizes + 1, most_sizes)
        _best_completions(score_K, half_F[bit + 1 :], other_F, rest_D)
        for size in range(1, sizes):
            floor = need - rest_D[left - size] - ROUNDING * need
            score, energy = score_K[half_F[bit]], energy_K[half_F[bit]]
            if not _merge(old, new, size, bit, score, energy, floor, dearest):
                sizes = most_sizes = size
                break
    return Sets(new.start_D[: sizes + 1], new.score_X, new.energy_X, new.members_X)


@compiled
def _merge(
    old: Sets, new: Sets, size: int, bit: int, score: float, energy: float, floor: float, dearest: float
) -> bool:
    """List the sets of a size with and without one more candidate; return False if they are too many."""
    without, without_end = old.start_D[size], old.start_D[size + 1]
    with_, with_end = old.start_D[size - 1], old.start_D[size]
    first = filled = new.start_D[size]
    while without < without_end or with_ < with_end:
        take_with = without >= without_end
        if not take_with and with_ < with_end:
            ahead = old.score_X[with_] + score - old.score_X[without]
            cheaper = old.energy_X[with_] + energy < old.energy_X[without]
            take_with = ahead > 0.0 or (ahead == 0.0 and cheaper)
        if take_with:
            new_score, new_energy = old.score_X[with_] + score, old.energy_X[with_] + energy
            members = old.members_X[with_] | (1 << bit)
            with_ += 1
        else:
            new_score, new_energy = old.score_X[without], old.energy_X[without]
            members = old.members_X[without]
            without += 1
        if new_score < floor:
            break
        if new_energy < dearest:
            if filled == new.score_X.size or filled - first == MOST_SETS:
                return False
            new.score_X[filled], new.energy_X[filled], new.members_X[filled] = new_score, new_energy, members
            dearest = new_energy  # what scores less must cost less
            filled += 1
    new.start_D[size + 1] = filled
    return True


@compiled
def _best_completions(score_K: Floats, one_F: Indices, other_F: Indices, best_D: Floats) -> None:
    """Write the sum of the d best scores of two groups together; each group is sorted by score descending."""
    one = other = 0
    for size in range(1, best_D.size):
        best_D[size] = best_D[size - 1]
        if one < one_F.size and (other == other_F.size or score_K[one_F[one]] >= score_K[other_F[other]]):
            best_D[size] += score_K[one_F[one]]
            one += 1
        elif other < other_F.size:
            best_D[size] += score_K[other_F[other]]
            other += 1
