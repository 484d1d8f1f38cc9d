"""JESA's block coordinate descent: experts for given subcarriers and subcarriers for given experts, in turn.

Shape suffixes: T items, E experts, M subcarriers, L scheduled links, P (item, link) pairs.
"""

from dataclasses import dataclass

import numpy as np

from airmoe.scheduling.joint.allocation import assign_subcarriers
from airmoe.scheduling.joint.layer import Floats, Indices, Layer
from airmoe.scheduling.selection.select import Selection, cheapest_sets

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


def descend(layer: Layer, load_L: Floats, best: Schedule | None = None) -> Schedule:
    """Assign for these loads, select experts, assign for those, and so on while the energy falls.

    Args:
        layer: the layer.
        load_L: bits on each link.
        best: the schedule to improve on, whose loads these are.
    """
    while True:
        column_L = _assign(layer, load_L)
        if best is not None and (column_L == best.column_L).all():
            return best
        found = schedule_of(layer, column_L, best)
        if best is not None and not _better(found.rank, best.rank):
            return best
        best, served_L = found, load_L
        load_L = load_of(layer, best)
        if (load_L == served_L).all():  # the same assignment again
            return best


def schedule_of(layer: Layer, column_L: Indices, after: Schedule | None = None) -> Schedule:
    """Return the cheapest selection under an allocation, as the round that follows another."""
    selection = layer.select(price_of(layer, column_L, np.inf))
    falling_j = () if after is None else after.falling_j
    return Schedule(column_L, selection, (*falling_j, rank_of(selection)[1]))


def load_of(layer: Layer, schedule: Schedule) -> Floats:
    """Return the loads that the next assignment should serve, in bits."""
    if (schedule.column_L >= 0).all():
        return layer.load_L(schedule.selection.mask)
    # A link that was left out might be better than one that was not.
    return fitting_load(layer, price_of(layer, schedule.column_L, layer.best_price_L))


def standing(layer: Layer) -> Indices:
    """Return the subcarriers of the scheduled links in the assignment of all links for equal loads."""
    every_NN = ~np.eye(layer.nodes, dtype=np.bool_)
    price_LM = layer.price_LM if (layer.link_NN == every_NN).all() else layer.price_NNM[every_NN]
    column_NN = np.empty(every_NN.shape, dtype=np.int64)
    column_NN[every_NN] = assign_subcarriers(price_LM, np.ones(len(price_LM)))
    return np.asarray(column_NN[layer.link_NN])


def greedy(layer: Layer, load_L: Floats) -> Indices:
    """Return the subcarriers where each link takes its best of those left, the dearest link first."""
    links, subcarriers = layer.price_LM.shape
    price_LM, column_L = layer.price_LM.copy(), np.full(links, -1, dtype=np.int64)
    best_price_L = np.where(np.isfinite(layer.best_price_L), layer.best_price_L, 0.0)
    for link in np.argsort(-load_L * best_price_L, kind="stable")[:subcarriers]:
        column = int(price_LM[link].argmin())
        if price_LM[link, column] < np.inf:
            column_L[link] = column
            price_LM[:, column] = np.inf
    return column_L


def price_of(layer: Layer, column_L: Indices, without_L: Floats | float) -> Floats:
    """Return the links' J per bit under an allocation; `without_L` where a link has no subcarrier."""
    price_L = np.take_along_axis(layer.price_LM, np.maximum(column_L, 0)[:, np.newaxis], axis=1)[:, 0]
    return np.where(column_L >= 0, price_L, without_L)


def _better(rank: tuple[int, float], than: tuple[int, float]) -> bool:
    return rank[0] < than[0] or (rank[0] == than[0] and rank[1] < than[1] * (1 - FALLS))


def _assign(layer: Layer, load_L: Floats) -> Indices:
    """Assign a subcarrier to every link, or to as many links as there are subcarriers.

    Idle links share what the used ones leave, so that an expert that was dropped can return. They are
    assigned after them: no weight is small enough where prices lie many orders of magnitude apart.
    """
    links, subcarriers = layer.price_LM.shape
    used_L = load_L > 0
    if used_L.all():
        return assign_subcarriers(layer.price_LM, load_L)
    column_L = np.full(links, -1, dtype=np.int64)
    used = np.flatnonzero(used_L)
    column_L[used] = assign_subcarriers(layer.price_LM[used], load_L[used])
    left = np.setdiff1d(np.arange(subcarriers), column_L[used])
    idle = np.flatnonzero(~used_L)
    if idle.size > left.size:
        idle = idle[np.argsort(layer.best_price_L[idle], kind="stable")[: left.size]]
    if idle.size:
        among = assign_subcarriers(layer.price_LM[np.ix_(idle, left)], np.ones(idle.size))
        column_L[idle] = np.where(among >= 0, left[among], -1)
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
