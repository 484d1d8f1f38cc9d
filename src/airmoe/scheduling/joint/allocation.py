"""The assignment of subcarriers to links.

Shape suffixes: N nodes, M subcarriers, L directed links.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from airmoe.checks import real_array, refuse_shape, refuse_where
from airmoe.links import Links


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
    from scipy.optimize import linear_sum_assignment

    links, subcarriers = price_LM.shape
    usable_LM = np.isfinite(price_LM)
    cost_LM = price_LM * load_L[:, np.newaxis]
    if not usable_LM.all():
        cost_LM[~usable_LM] = 0.0
        # One such entry costs more than any assignment without; it is finite, so an assignment always exists.
        cost_LM[~usable_LM] = 2 * cost_LM.max(axis=1, initial=0.0).sum() + np.finfo(float).tiny
    if subcarriers < links:
        worst = price_LM[usable_LM].max(initial=0.0)
        without_LM = np.repeat(load_L[:, np.newaxis] * worst, links - subcarriers, axis=1)
        cost_LM = np.hstack([cost_LM, without_LM])
    row, column = linear_sum_assignment(cost_LM)
    column_L = np.full(links, -1, dtype=np.int64)
    served = column < subcarriers
    served[served] = usable_LM[row[served], column[served]]
    column_L[row[served]] = column[served]
    return column_L
