"""The experts that an item may or must have in any schedule within a given gap of the cheapest.

Shape suffixes: T items, E experts, P (item, expert) pairs.
"""

from functools import cache
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from airmoe.scheduling.joint.layer import Floats, Indices, Layer
from airmoe.scheduling.selection.hard_items import EXACT
from airmoe.scheduling.selection.select import SCORE_TOLERANCE, Selection, cheapest_sets, kernel_input

Flags = NDArray[np.bool_]


def undecided(layer: Layer, price_L: Floats, selection: Selection, gap_j: float) -> tuple[Flags, Flags]:
    """Return two bool (T, E): the experts that an item may have, and those that it must have.

    Take the cheapest sufficient set of an item with (or without) an expert. If it costs over `gap_j` more
    than the item's cheapest set, no schedule within `gap_j` of the bound has (or lacks) that expert.

    Args:
        layer: the layer.
        price_L: J per bit of the links.
        selection: the cheapest sets at these prices.
        gap_j: J, how much more a schedule may cost over all items.
    """
    energy_TE = layer.energy_TE(price_L)
    spare_T = selection.energy_j + gap_j
    if layer.max_experts > 2:
        spare_T *= 1 + EXACT  # sets of more than two are the cheapest to a tolerance only
    possible_TE, certain_TE = selection.mask.copy(), np.zeros_like(selection.mask)
    if layer.max_experts <= 2:
        _pairs().force_pairs(
            kernel_input(layer.scores_TE),
            energy_TE,
            layer.threshold_T - SCORE_TOLERANCE,
            layer.max_experts,
            selection.feasible,
            spare_T,
            possible_TE,
            certain_TE,
        )
    else:
        _force_any(layer, energy_TE, selection, spare_T, possible_TE, certain_TE)
    # An item that cannot meet its threshold gets the best scores; the price decides among equal scores.
    missed_I = np.flatnonzero(~selection.feasible)
    if missed_I.size:
        score_IE, chosen_IE = layer.scores_TE[missed_I], selection.mask[missed_I]
        least_I1 = np.where(chosen_IE, score_IE, np.inf).min(axis=1, keepdims=True)
        enough_IE = np.isfinite(energy_TE[missed_I]) & (score_IE >= least_I1)
        tied_I1 = enough_IE.sum(axis=1, keepdims=True) > layer.max_experts
        possible_TE[missed_I] = enough_IE
        certain_TE[missed_I] = enough_IE & ~(tied_I1 & (score_IE == least_I1))
    return possible_TE, certain_TE


def _force_any(
    layer: Layer,
    energy_TE: Floats,
    selection: Selection,
    spare_T: Floats,
    possible_TE: Flags,
    certain_TE: Flags,
) -> None:
    """Force each expert out of the sets it is in, then into the others: two selections of all such rows."""
    met_T1 = selection.feasible[:, np.newaxis]
    item_P, expert_P = np.nonzero(selection.mask & met_T1)
    threshold_P = layer.threshold_T[item_P]
    without_P = _cheapest_without(layer, energy_TE, item_P, expert_P, threshold_P, layer.max_experts)
    certain_TE[item_P, expert_P] = ~(without_P <= spare_T[item_P])
    item_P, expert_P = np.nonzero(~selection.mask & met_T1 & (energy_TE <= spare_T[:, np.newaxis]))
    rest_P = layer.threshold_T[item_P] - layer.scores_TE[item_P, expert_P]
    others_P = np.zeros(item_P.size)
    more_P = rest_P > SCORE_TOLERANCE
    others_P[more_P] = _cheapest_without(
        layer, energy_TE, item_P[more_P], expert_P[more_P], rest_P[more_P], layer.max_experts - 1
    )
    possible_TE[item_P, expert_P] = energy_TE[item_P, expert_P] + others_P <= spare_T[item_P]


def _cheapest_without(
    layer: Layer, energy_TE: Floats, item_P: Indices, expert_P: Indices, threshold_P: Floats, max_experts: int
) -> Floats:
    """Return the energy of each item's cheapest sufficient set without one expert; inf if none exists."""
    if max_experts == 0:
        return np.full(item_P.size, np.inf)
    energy_PE = energy_TE[item_P]
    energy_PE[np.arange(item_P.size), expert_P] = np.inf
    selection = cheapest_sets(layer.scores_TE[item_P], energy_PE, threshold_P, max_experts)
    return np.where(selection.feasible, selection.energy_j, np.inf)


@cache
def _pairs() -> ModuleType:
    """Import the compiled kernel at its first use, since Numba loads slowly."""
    from airmoe.scheduling.joint import pairs

    return pairs
