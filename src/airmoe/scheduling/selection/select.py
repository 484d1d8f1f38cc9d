"""Expert selection: the cheapest set of experts whose scores suffice, solved exactly.

Shape suffixes: T items, E experts.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from types import ModuleType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from airmoe.checks import integer_at_least, numbers_within, real_array
from airmoe.errors import InvalidInputError, require
from airmoe.scheduling.cost import check_energies
from airmoe.scheduling.policy import check_scores
from airmoe.scheduling.selection.hard_items import prove_set
from airmoe.showing import OneLine

SCORE_TOLERANCE = 1e-9  # a float32 softmax may sum to less than 1
QUICK_NODES = 300  # beyond, every node is worth a bound of its own
PARALLEL_ENTRIES = 200_000  # with fewer scores, threads cost more than they save
_NO_BUDGET = np.iinfo(np.int64).max


@dataclass(frozen=True, eq=False, repr=False)
class Selection(OneLine):
    """The experts chosen for each item.

    Attributes:
        mask: bool (T, E), True where the expert is chosen.
        energy_j: float64 (T,), J, the sum of the chosen experts' energies; inf where none is reachable.
        feasible: bool (T,), False where the reachable experts cannot meet the threshold.
        search_nodes: int64 (T,), the visited nodes of the search tree plus the listed sets.
        gap_j: float64 (T,), J, how far `energy_j` may be above the optimum; 0 means proven optimal.
    """

    mask: NDArray[np.bool_]
    energy_j: NDArray[np.float64]
    feasible: NDArray[np.bool_]
    search_nodes: NDArray[np.int64]
    gap_j: NDArray[np.float64]

    def __repr__(self) -> str:
        items, experts = self.mask.shape
        total = f"{self.mask.sum()} of {items * experts} pairs, {self.energy_j.sum():.3g} J"
        return f"Selection({items} items, {experts} experts, {total}, {self.feasible.sum()} feasible)"


def select_experts(
    scores: ArrayLike,
    energy: ArrayLike,
    threshold: ArrayLike = 0.5,
    max_experts: int = 2,
    *,
    node_budget: int | None = None,
) -> Selection:
    """Choose for each item the cheapest experts whose scores suffice: P1 of arXiv 2503.13421.

    Minimises sum_j x_j e_j subject to sum_j x_j t_j >= q - 1e-9, sum_j x_j <= D and x binary, to a relative
    1e-9 in energy. At least one expert is chosen. If the D best reachable scores sum to less than q, the item
    gets those D experts and is flagged infeasible. If no expert is reachable, it gets none.

    The first call compiles the search, which takes some seconds and is logged; later processes load it from a
    cache. Large batches run on all cores, with the same result on any number of them.

    Args:
        scores: t, (T, E), finite, >= 0; a row usually sums to 1.
        energy: e, (E,) for all items or (T, E), J, >= 0; inf means unreachable.
        threshold: q, one number or (T,), from 0 to 1.
        max_experts: D, the most experts an item may get, an integer >= 1.
        node_budget: about how many nodes an item's search may visit, an integer >= 1. An item that would
            need more gets the best set found and a `gap_j` above 0. With None every item is solved, which may
            take minutes if energies follow scores closely and experts are many. Up to D = 2 all pairs are
            tried in any case.

    Raises:
        InvalidInputError: a shape is wrong, or a value is not allowed; the error names it and its index.
        MissingExtraError: Numba is missing, which the extra `airmoe[schedule]` brings.

    Examples:
        >>> from airmoe.scheduling import select_experts
        >>> chosen = select_experts([[0.5, 0.3, 0.2]], energy=[9.0, 2.0, 1.0], threshold=0.5, max_experts=2)
        >>> chosen.mask.tolist()  # 0.3 + 0.2 suffice, for 3 J instead of 9 J
        [[False, True, True]]
        >>> chosen.energy_j.tolist(), chosen.gap_j.tolist()
        ([3.0], [0.0])
    """
    scores_TE = check_scores("scores", scores)
    items, experts = scores_TE.shape
    energy_j = real_array("energy", energy)
    if energy_j.shape == (experts,):
        energy_TE = np.broadcast_to(
            check_energies("energy", energy_j[np.newaxis], (1, experts)), (items, experts)
        )
    else:
        energy_TE = check_energies("energy", energy_j, (items, experts))
    threshold_T = numbers_within("threshold", threshold, 0, 1)
    if threshold_T.shape not in ((), (items,)):
        raise InvalidInputError("shape of threshold", threshold_T.shape, f"a number or (T,) = {(items,)}")
    max_experts = integer_at_least("max_experts", max_experts, 1)
    budget = _NO_BUDGET if node_budget is None else integer_at_least("node_budget", node_budget, 1)
    budget = min(budget, _NO_BUDGET)
    return cheapest_sets(scores_TE, energy_TE, np.broadcast_to(threshold_T, (items,)), max_experts, budget)


def cheapest_sets(
    scores_TE: NDArray[np.float64],
    energy_TE: NDArray[np.float64],
    threshold_T: NDArray[np.float64],
    max_experts: int,
    node_budget: int = _NO_BUDGET,
) -> Selection:
    """Select experts as `select_experts` does, from checked inputs; thresholds may be negative."""
    items, experts = scores_TE.shape
    selection = Selection(
        mask=np.zeros((items, experts), dtype=np.bool_),
        energy_j=np.empty(items),
        feasible=np.empty(items, dtype=np.bool_),
        search_nodes=np.empty(items, dtype=np.int64),
        gap_j=np.zeros(items),
    )
    max_experts = min(max_experts, experts)

    def solve(rows: slice) -> None:
        _solve_rows(
            kernel_input(scores_TE[rows]),
            kernel_input(energy_TE[rows]),
            threshold_T[rows] - SCORE_TOLERANCE,
            max_experts,
            node_budget,
            Selection(*(getattr(selection, name)[rows] for name in selection.__dataclass_fields__)),
        )

    _search()  # compiled once, not by each thread
    if items * experts < PARALLEL_ENTRIES or (cores := _cores()) == 1:
        need_T = threshold_T - SCORE_TOLERANCE
        _solve_rows(
            kernel_input(scores_TE), kernel_input(energy_TE), need_T, max_experts, node_budget, selection
        )
    else:
        step = -(-items // (8 * cores))  # some parts are harder than others
        with ThreadPoolExecutor(cores) as pool:
            list(pool.map(solve, (slice(first, first + step) for first in range(0, items, step))))
    return selection


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def kernel_input(array_TE: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return an array in the layout of the kernels; for another layout they would be compiled again."""
    return np.require(array_TE, requirements=["C", "W"])


def _solve_rows(
    scores_TE: NDArray[np.float64],
    energy_TE: NDArray[np.float64],
    need_T: NDArray[np.float64],
    max_experts: int,
    node_budget: int,
    selection: Selection,
) -> None:
    """Write the solution of each row into `selection`; rows that the quick search gives up are proven."""
    proven_T = np.empty(len(scores_TE), dtype=np.bool_)
    _search().select_rows(
        scores_TE,
        energy_TE,
        need_T,
        max_experts,
        min(QUICK_NODES, node_budget),
        selection.mask,
        selection.energy_j,
        selection.feasible,
        selection.search_nodes,
        proven_T,
    )
    for item in np.flatnonzero(~proven_T):
        reachable_K = np.flatnonzero(np.isfinite(energy_TE[item]))
        score_K, energy_K = scores_TE[item, reachable_K], energy_TE[item, reachable_K]
        first_K = selection.mask[item, reachable_K]
        nodes_left = node_budget - selection.search_nodes[item]
        proof = prove_set(score_K, energy_K, need_T[item], max_experts, first_K, nodes_left)
        selection.mask[item, reachable_K] = proof.mask_K
        selection.energy_j[item], selection.gap_j[item] = proof.energy_j, proof.gap_j
        selection.search_nodes[item] += proof.nodes


@cache
def _search() -> ModuleType:
    """Import the compiled search at its first use: Numba loads slowly, and most policies need none.

    Raises:
        MissingExtraError: Numba is not installed.
    """
    require("schedule", "numba", by="the exact selection of experts, as in des and jesa,")
    from airmoe.scheduling.selection import quick_search as search

    return search
