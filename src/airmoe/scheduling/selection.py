"""Which experts an item gets: the cheapest set whose scores suffice, solved exactly.

Shape suffixes: T items, E experts.
"""

import logging
from dataclasses import dataclass
from functools import cache
from types import ModuleType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from airmoe.errors import InvalidInputError
from airmoe.links.checks import integer_at_least, real_array, refuse_where
from airmoe.scheduling.policy import check_prices, check_scores

SCORE_TOLERANCE = 1e-9  # a float32 softmax may sum to less than 1


@dataclass(frozen=True, eq=False)
class Selection:
    """The experts chosen for each item.

    Attributes:
        mask: bool (T, E), True where the expert is chosen.
        energy_j: float64 (T,), J, the sum of the chosen experts' energies; inf where none is reachable.
        feasible: bool (T,), False where the reachable experts cannot meet the threshold.
        search_nodes: int64 (T,), how many nodes of the search tree were visited.
        gap_j: float64 (T,), J, how far `energy_j` may be above the optimum; 0 means proven optimal.
    """

    mask: NDArray[np.bool_]
    energy_j: NDArray[np.float64]
    feasible: NDArray[np.bool_]
    search_nodes: NDArray[np.int64]
    gap_j: NDArray[np.float64]


def select_experts(
    scores: ArrayLike, energy: ArrayLike, threshold: ArrayLike = 0.5, max_experts: int = 2
) -> Selection:
    """Choose for each item the cheapest experts whose scores suffice: P1 of arXiv 2503.13421.

    Minimises sum_j x_j e_j subject to sum_j x_j t_j >= q - 1e-9, sum_j x_j <= D and x binary, to a relative
    1e-9 in energy. At least one expert is chosen. Where the D best reachable scores sum to less than q, those
    D experts are taken and the item is flagged infeasible; where no expert is reachable, none is taken.
    The first call compiles the search, which takes some seconds.

    Args:
        scores: t, (T, E), finite, >= 0; a row usually sums to 1.
        energy: e, (E,) for all items or (T, E), J, >= 0; inf means unreachable.
        threshold: q, one number or (T,), from 0 to 1.
        max_experts: D, the most experts an item may get, an integer >= 1.

    Raises:
        InvalidInputError: a wrong shape, or a value that is not allowed, named with its index.
    """
    scores_TE = check_scores("scores", scores)
    items, experts = scores_TE.shape
    energy_j = real_array("energy", energy)
    if energy_j.shape == (experts,):
        energy_TE = np.tile(check_prices("energy", energy_j[np.newaxis], (1, experts)), (items, 1))
    else:
        energy_TE = check_prices("energy", energy_j, (items, experts))
    threshold_T = real_array("threshold", threshold)
    if threshold_T.shape not in ((), (items,)):
        raise InvalidInputError("shape of threshold", threshold_T.shape, f"a number or (T,) = {(items,)}")
    wrong = ~((threshold_T >= 0) & (threshold_T <= 1))
    refuse_where("threshold", threshold_T, wrong, "a number from 0 to 1")
    max_experts = min(integer_at_least("max_experts", max_experts, 1), experts)

    selection = Selection(
        mask=np.zeros((items, experts), dtype=np.bool_),
        energy_j=np.empty(items),
        feasible=np.empty(items, dtype=np.bool_),
        search_nodes=np.empty(items, dtype=np.int64),
        gap_j=np.zeros(items),
    )
    _search().select_rows(
        np.ascontiguousarray(scores_TE),
        np.ascontiguousarray(energy_TE),
        np.broadcast_to(threshold_T, (items,)) - SCORE_TOLERANCE,
        max_experts,
        selection.mask,
        selection.energy_j,
        selection.feasible,
        selection.search_nodes,
    )
    return selection


@cache
def _search() -> ModuleType:
    """Load the compiled search late: Numba is heavy, and most policies do without."""
    logging.getLogger("airmoe").info("compiling the expert search, or loading it from an earlier run")
    from airmoe.scheduling import search

    return search
