"""JESA's block coordinate descent: experts for given subcarriers and subcarriers for given experts, in turn.

Shape suffixes: T items, E experts, M subcarriers, L scheduled links, P (item, link) pairs.
"""

from dataclasses import dataclass

import numpy as np

from airmoe.scheduling.joint.allocation import assign_subcarriers
from airmoe.scheduling.joint.layer import Floats, Indices, Layer
from airmoe.scheduling.selection.select import Selection, cheapest_sets

IDLE_LOAD = 1e-9
"""The load of a link without items in the assignment, in items; so an expert that was dropped can return."""

FALLS = 1e-12
"""The smallest relative decrease that counts as a fall of the energy."""


@dataclass(frozen=True, eq=False)
class Schedule:
    """A selection and an allocation that belong together.

    Attributes:
        column_L: the subcarrier of each scheduled link, -1 for none.
        selection: the cheapest sets of experts under this allocation.
        falling_j: J, the energy after each round of assignment and selection.
    """

    column_L: Indices
    selection: Selection
    falling_j: tuple[float, ...]

    @property
    def rank(self) -> tuple[int, float]:
        """The items that miss their threshold, then the energy in J; a smaller rank is better."""
        return rank_of(self.selection)


def rank_of(selection: Selection) -> tuple[int, float]:
    """Return how many items miss their threshold, and the energy of all served items, in J."""
    energy_j = selection.energy_j
    if not selection.feasible.all():
        energy_j = energy_j[np.isfinite(energy_j)]
    return int((~selection.feasible).sum()), float(energy_j.sum())


def descend(layer: Layer, load_L: Floats) -> Schedule:
    """Assign for these loads, select experts, assign for those, and so on while the energy falls."""
    best: Schedule | None = None
    falling_j: list[float] = []
    while True:
        column_L = _assign(layer, load_L)
        if best is not None and (column_L == best.column_L).all():
            return best
        selection = layer.select(price_of(layer, column_L, np.full(column_L.size, np.inf)))
        rank = rank_of(selection)
        if best is not None and not _better(rank, best.rank):
            return best
        falling_j.append(rank[1])
        best = Schedule(column_L, selection, tuple(falling_j))
        if (column_L >= 0).all():
            load_L = layer.load_L(selection.mask)
        else:  # a link that was left out might be better than one that was not
            load_L = fitting_load(layer, price_of(layer, column_L, layer.best_price_L))


def price_of(layer: Layer, column_L: Indices, without_L: Floats) -> Floats:
    """Return the links' J per bit under an allocation; `without_L` where a link has no subcarrier."""
    price_L = np.take_along_axis(layer.price_LM, np.maximum(column_L, 0)[:, np.newaxis], axis=1)[:, 0]
    return np.where(column_L >= 0, price_L, without_L)


def _better(rank: tuple[int, float], than: tuple[int, float]) -> bool:
    return rank[0] < than[0] or (rank[0] == than[0] and rank[1] < than[1] * (1 - FALLS))


def _assign(layer: Layer, load_L: Floats) -> Indices:
    """Assign a subcarrier to every link, or to as many links as there are subcarriers."""
    links, subcarriers = layer.price_LM.shape
    weight_L = np.maximum(load_L, IDLE_LOAD * layer.bits_T.mean()) if links else load_L
    if links <= subcarriers:
        return assign_subcarriers(layer.price_LM, weight_L)
    first_L = np.lexsort((layer.best_price_L, load_L == 0))[:subcarriers]  # active ones, then the cheapest
    column_L = np.full(links, -1, dtype=np.int64)
    column_L[first_L] = assign_subcarriers(layer.price_LM[first_L], weight_L[first_L])
    return column_L


def fitting_load(layer: Layer, price_L: Floats) -> Floats:
    """Return the loads of a selection that needs no more links than there are subcarriers.

    While a selection needs more, the links close whose items are served most cheaply without them.
    """
    price_L = price_L.copy()
    while True:
        selection = layer.select(price_L)
        load_L = layer.load_L(selection.mask)
        excess = int((load_L > 0).sum()) - layer.price_LM.shape[1]
        if excess <= 0:
            return load_L
        regret_L = _regret(layer, price_L, selection)
        least_L = np.argsort(np.where(load_L > 0, regret_L, np.inf), kind="stable")
        price_L[least_L[: max(1, excess // 4)]] = np.inf


def _regret(layer: Layer, price_L: Floats, selection: Selection) -> Floats:
    """Return the extra J of each link's items without the link; a missed threshold counts more than any."""
    energy_TE = layer.energy_TE(price_L)
    remote_TE = layer.source_T[:, np.newaxis] != layer.node_XE
    item_P, expert_P = np.nonzero(selection.mask & remote_TE)
    without_PE = energy_TE[item_P]
    node_PE = layer.node_XE if len(layer.node_XE) == 1 else layer.node_XE[item_P]
    without_PE[node_PE == layer.node_P(item_P, expert_P)[:, np.newaxis]] = np.inf
    other = cheapest_sets(layer.scores_TE[item_P], without_PE, layer.threshold_T[item_P], layer.max_experts)
    missed_j = 1e3 * rank_of(selection)[1]
    lost_P = selection.feasible[item_P] & ~other.feasible
    energy_j_P = np.where(np.isfinite(other.energy_j), other.energy_j, 0.0)
    return layer.sum_L(item_P, expert_P, energy_j_P - selection.energy_j[item_P] + missed_j * lost_P)
