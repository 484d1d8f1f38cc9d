"""Which subcarrier each link gets.

Shape suffixes: N nodes, M subcarriers, L directed links between different nodes (L = N (N - 1)).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from airmoe.errors import InvalidInputError
from airmoe.links import Links
from airmoe.links.checks import real_array, refuse_shape, refuse_where


def allocate_subcarriers(links: Links, load_NN: ArrayLike | None = None) -> NDArray[np.int64]:
    """Give every directed link a subcarrier of its own, for the least energy.

    Minimises sum_ij load_ij P0 / r_ij^(m) over all assignments in which no two links share a subcarrier
    (Kuhn-Munkres; P2 of arXiv 2503.13421 with the selection fixed).

    Args:
        links: the links as the scheduler sees them.
        load_NN: what each link carries, >= 0, in any unit (bits, tokens); left out, 1 on every link. A link
            without load still gets a subcarrier, whichever is left: give it a tiny load to have a good one.

    Returns:
        int64 (N, N), the subcarrier of link i -> j; -1 on the diagonal and where no subcarrier with a gain
        could be had.

    Raises:
        InvalidInputError: fewer subcarriers than links, or a load of the wrong shape, negative or not finite.
    """
    from scipy.optimize import linear_sum_assignment

    nodes, subcarriers = links.nodes, links.radio.subcarriers
    load_NN = np.ones((nodes, nodes)) if load_NN is None else real_array("load_NN", load_NN)
    refuse_shape("load_NN", load_NN, (nodes, nodes), "(N, N)")
    refuse_where("load_NN", load_NN, ~(np.isfinite(load_NN) & (load_NN >= 0)), "finite and >= 0")
    source_L, target_L = np.nonzero(~np.eye(nodes, dtype=np.bool_))
    if subcarriers < source_L.size:
        raise InvalidInputError(
            "subcarriers", subcarriers, f"at least {source_L.size}, one for each link between {nodes} nodes"
        )
    price_LM = links.radio.energy_per_bit_j(links.gain_NNM[source_L, target_L])
    usable_LM = np.isfinite(price_LM)
    cost_LM = load_NN[source_L, target_L][:, np.newaxis] * np.where(usable_LM, price_LM, 0.0)
    # Dearer than any assignment without such an entry, yet finite, so that an assignment always exists.
    cost_LM[~usable_LM] = 1.0 + cost_LM.max(axis=1, initial=0.0).sum()
    row, column = linear_sum_assignment(cost_LM)
    subcarrier_NN = np.full((nodes, nodes), -1, dtype=np.int64)
    subcarrier_NN[source_L[row], target_L[row]] = np.where(usable_LM[row, column], column, -1)
    return subcarrier_NN
