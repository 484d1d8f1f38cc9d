"""The assignment of subcarriers to links.

Shape suffixes: N nodes, M subcarriers, L directed links, R those of them that are assigned again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from airmoe.checks import real_array, refuse_shape, refuse_where
from airmoe.links import Links

RESOLVED = 1e-6
"""Costs this much smaller than the largest detour are not resolved in one assignment."""

OUTAGE = 1e6
"""A price this many times the median link's best is an outage, not a price."""


def allocate_subcarriers(links: Links, load_NN: ArrayLike | None = None) -> NDArray[np.int64]:
    """Give every directed link a subcarrier of its own, for the least energy.

    Minimises sum_ij load_ij P0 / r_ij^(m) over all assignments in which no two links share a subcarrier
    (Kuhn-Munkres; P2 of arXiv 2503.13421 with the selection fixed). If there are fewer subcarriers than
    links, some links get none. A link without subcarrier counts at the price of the worst subcarrier of all,
    so the links that need one least go without. Where the radio is not shared, each link gets its best one.

    Args:
        links: the links as the scheduler sees them.
        load_NN: the load of each link, >= 0, in any unit (bits, tokens); left out, 1 on every link. A link
            without load gets any subcarrier that is left; a tiny load gets it a good one.

    Returns:
        int64 (N, N), the subcarrier of link i -> j; -1 on the diagonal, and for a link that got none with a
        gain.

    Raises:
        InvalidInputError: a load has the wrong shape, is negative or not finite.

    Examples:
        >>> from airmoe.links import Links, Ofdma
        >>> from airmoe.scheduling import allocate_subcarriers
        >>> snr_db_NNM = [[[0, 0], [30, 20]], [[30, 0], [0, 0]]]  # both links like subcarrier 0 best
        >>> allocate_subcarriers(Links.from_snr(snr_db_NNM, Ofdma(subcarriers=2)))
        array([[-1,  1],
               [ 0, -1]])
    """
    nodes = links.nodes
    load_NN = np.ones((nodes, nodes)) if load_NN is None else real_array("load_NN", load_NN)
    refuse_shape("load_NN", load_NN, (nodes, nodes), "(N, N)")
    refuse_where("load_NN", load_NN, ~(np.isfinite(load_NN) & (load_NN >= 0)), "finite and >= 0")
    if not links.radio.shared:
        return links.best_subcarrier_NN
    source_L, target_L = np.nonzero(~np.eye(nodes, dtype=np.bool_))
    price_LM = links.radio.energy_per_bit_j(links.gain_NNM[source_L, target_L])
    subcarrier_NN = np.full((nodes, nodes), -1, dtype=np.int64)
    subcarrier_NN[source_L, target_L] = assign_subcarriers(price_LM, load_NN[source_L, target_L])
    return subcarrier_NN


def assign_subcarriers(price_LM: NDArray[np.float64], load_L: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the subcarrier of each link for the least sum of load times price; -1 for a link that gets none.

    Args:
        price_LM: >= 0, inf where a link cannot use a subcarrier.
        load_L: finite, >= 0.
    """
    links, subcarriers = price_LM.shape
    usable_LM = np.isfinite(price_LM)
    all_usable = bool(usable_LM.all())
    if not all_usable:
        price_LM = np.where(usable_LM, price_LM, 0.0)
    cost_LM = price_LM * load_L[:, np.newaxis]
    if not all_usable:
        # One such entry costs more than any assignment without; it is finite, so an assignment always exists.
        cost_LM[~usable_LM] = 2 * cost_LM.max(axis=1, initial=0.0).sum() + np.finfo(float).tiny
    without_L = load_L * (_price_without(price_LM, usable_LM) if subcarriers < links else 0.0)
    column_L = _cheapest_columns(cost_LM, without_L)
    served = np.flatnonzero(column_L >= 0)
    column_L[served[~usable_LM[served, column_L[served]]]] = -1
    return column_L


def assigned(cost_LM: NDArray[np.float64], without_L: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return a column of its own for each row at the least sum of costs, which are finite.

    If there are fewer columns than rows, some rows get -1 and cost what they cost without. The number of
    these is given, so only the differences from that count, and no column for each of them is needed: L^2
    values in all.
    """
    from scipy.optimize import linear_sum_assignment

    if len(cost_LM) > cost_LM.shape[1]:
        cost_LM = cost_LM - (without_L - without_L.min())[:, np.newaxis]
    row, column = linear_sum_assignment(cost_LM)
    column_L = np.full(len(cost_LM), -1, dtype=np.int64)
    column_L[row] = column
    return column_L


def _price_without(price_LM: NDArray[np.float64], usable_LM: NDArray[np.bool_]) -> float:
    """Return the price at which a link without subcarrier counts: the worst one, unless it is an outage."""
    if not usable_LM.any():
        return 0.0
    best_L = np.where(usable_LM, price_LM, np.inf).min(axis=1)
    return float(min(price_LM.max(), OUTAGE * np.median(best_L[np.isfinite(best_L)])))


def _cheapest_columns(cost_LM: NDArray[np.float64], without_L: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return what `assigned` does, but for rounding.

    A sum with a dear link in it loses what cheap ones cost to rounding. So where what links pay lies far
    apart, the dear ones keep their columns, and the others are assigned again among the rest.
    """
    column_L = assigned(cost_LM, without_L)
    more_L = without_L - without_L.min(initial=np.inf)
    if not _far_apart(np.append(_paid(cost_LM, more_L, column_L), more_L)):  # what `assigned` sums up
        return column_L
    # Only differences within a row matter. Without the row's least cost, less is lost.
    least_L = cost_LM.min(axis=1)
    if len(cost_LM) > cost_LM.shape[1]:
        least_L = np.minimum(least_L, without_L)
    detour_LM, detour_without_L = cost_LM - least_L[:, np.newaxis], without_L - least_L
    row_L, free_M = np.arange(len(cost_LM)), np.ones(cost_LM.shape[1], dtype=np.bool_)
    while (detours := _paid(detour_LM, detour_without_L, column_L)[row_L].sum()) > 0:
        # No assignment with one detour above the sum at hand is better.
        most, free = 2 * detours, np.flatnonzero(free_M)
        detour_RM = np.minimum(detour_LM[np.ix_(row_L, free)], most)
        place_R = assigned(detour_RM, np.minimum(detour_without_L[row_L], most))
        column_L[row_L] = np.where(place_R >= 0, np.append(free, -1)[place_R], -1)
        paid_R = _paid(detour_LM, detour_without_L, column_L)[row_L]
        cost_R = _paid(cost_LM, without_L, column_L)[row_L]
        dear_R = paid_R >= paid_R.max() * RESOLVED
        if not ((cost_R > 0) & (cost_R < paid_R.max() * RESOLVED)).any():
            break
        kept = column_L[row_L[dear_R]]
        free_M[kept[kept >= 0]] = False
        row_L = row_L[~dear_R]
    return column_L


def _paid(
    cost_LM: NDArray[np.float64], without_L: NDArray[np.float64], column_L: NDArray[np.int64]
) -> NDArray[np.float64]:
    return np.where(column_L >= 0, cost_LM[np.arange(len(column_L)), column_L], without_L)


def _far_apart(cost_L: NDArray[np.float64]) -> bool:
    """Return whether some of these costs, 0 aside, are lost beside the largest."""
    if not cost_L.size:
        return False
    least = cost_L.min()
    if least == 0:
        least = cost_L[cost_L > 0].min(initial=np.inf)
    return bool(least < cost_L.max() * RESOLVED)
