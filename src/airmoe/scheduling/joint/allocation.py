"""The assignment of subcarriers to links.

Shape suffixes: N nodes, M subcarriers, L directed links.
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
    so the links that need one least go without.

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
    if subcarriers < links and all_usable and np.ptp(load_L) == 0:
        column_L = _cheapest_rows(cost_LM)
        if column_L is not None:
            return column_L
    if subcarriers < links:
        without_L = load_L * _price_without(price_LM, usable_LM)
        cost_LM = np.hstack([cost_LM, np.repeat(without_L[:, np.newaxis], links - subcarriers, axis=1)])
    column_L = _cheapest_columns(cost_LM)
    if all_usable and subcarriers >= links:
        return column_L
    column_L[column_L >= subcarriers] = -1
    served = np.flatnonzero(column_L >= 0)
    column_L[served[~usable_LM[served, column_L[served]]]] = -1
    return column_L


def _cheapest_rows(cost_LM: NDArray[np.float64]) -> NDArray[np.int64] | None:
    """Return a row of its own for each column at the least sum of costs, as the column of each row or -1.

    Links of equal load count the same without a subcarrier, so a column for each of those left out, L^2
    values in all, is not needed. None where costs lie too far apart for one sum.
    """
    from scipy.optimize import linear_sum_assignment

    row_M, column_M = linear_sum_assignment(cost_LM)
    if _far_apart(cost_LM[row_M, column_M]):
        return None
    column_L = np.full(len(cost_LM), -1, dtype=np.int64)
    column_L[row_M] = column_M
    return column_L


def _price_without(price_LM: NDArray[np.float64], usable_LM: NDArray[np.bool_]) -> float:
    """Return the price at which a link without subcarrier counts: the worst one, unless it is an outage."""
    if not usable_LM.any():
        return 0.0
    best_L = np.where(usable_LM, price_LM, np.inf).min(axis=1)
    return float(min(price_LM.max(), OUTAGE * np.median(best_L[np.isfinite(best_L)])))


def _cheapest_columns(cost_LM: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return a column of its own for each row, at the least sum of costs; costs are finite.

    A sum with a dear link in it loses what cheap ones cost to rounding. So where what links pay lies far
    apart, the dear ones keep their columns, and the others are assigned again among the rest.
    """
    from scipy.optimize import linear_sum_assignment

    row_L, column_L = linear_sum_assignment(cost_LM)
    if not _far_apart(cost_LM[row_L, column_L]):
        return np.asarray(column_L, dtype=np.int64)
    # Only differences within a row matter. Without the row's least cost, less is lost.
    detour_LM = cost_LM - cost_LM.min(axis=1, keepdims=True)
    column_L = np.asarray(linear_sum_assignment(detour_LM)[1], dtype=np.int64)
    free_M = np.ones(cost_LM.shape[1], dtype=np.bool_)
    while row_L.size:
        paid_L = detour_LM[row_L, column_L[row_L]]
        cost_L = cost_LM[row_L, column_L[row_L]]
        dear_L = paid_L >= paid_L.max() * RESOLVED
        if not ((cost_L > 0) & (cost_L < paid_L.max() * RESOLVED)).any():
            break
        free_M[column_L[row_L[dear_L]]] = False
        row_L, free = row_L[~dear_L], np.flatnonzero(free_M)
        column_L[row_L] = free[linear_sum_assignment(detour_LM[np.ix_(row_L, free)])[1]]
    return column_L


def _far_apart(cost_L: NDArray[np.float64]) -> bool:
    """Return whether some of these costs, 0 aside, are lost beside the largest."""
    if not cost_L.size:
        return False
    least = cost_L.min()
    if least == 0:
        least = cost_L[cost_L > 0].min(initial=np.inf)
    return bool(least < cost_L.max() * RESOLVED)
