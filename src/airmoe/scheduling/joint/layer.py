"""One MoE layer as the joint scheduler sees it: items, schedulable links, and the energy of a choice.

Shape suffixes: T items, X one or T, E experts, N nodes, M subcarriers, L scheduled links, P (item, expert)
pairs.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from airmoe.scheduling.selection.hard_items import TOLERANCE
from airmoe.scheduling.selection.select import Selection, cheapest_sets

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Layer:
    """The data of P2 of arXiv 2503.13421; the caller has checked them.

    Links from a node with items to a node with experts may be scheduled; with `charge_return` the reverse
    links, too.

    Attributes:
        scores_TE: gate scores.
        threshold_T: the least sum of an item's chosen scores.
        max_experts: D.
        source_T: the node of each item.
        node_XE: the node that would serve each item by each expert: (T, E), or (1, E) for all items alike.
        bits_T: bits of each item's payload.
        compute_j_E: J that an expert spends on an item.
        reachable_TE: True for the pairs that may be chosen.
        price_NNM: J per bit of each link on each subcarrier, inf without gain.
        charge_return: True if outputs travel over the reverse link at the price of payloads.
    """

    scores_TE: Floats
    threshold_T: Floats
    max_experts: int
    source_T: Indices
    node_XE: Indices
    bits_T: Floats
    compute_j_E: Floats
    reachable_TE: NDArray[np.bool_]
    price_NNM: Floats
    charge_return: bool

    @property
    def nodes(self) -> int:
        """N."""
        return len(self.price_NNM)

    @cached_property
    def link_NN(self) -> NDArray[np.bool_]:
        """True for the links that may be scheduled."""
        link_NN = np.zeros((self.nodes, self.nodes), dtype=np.bool_)
        source_X = self.source_T
        if len(self.node_XE) == 1:
            source_X = np.flatnonzero(np.bincount(self.source_T, minlength=self.nodes))
        link_NN[source_X[:, np.newaxis], self.node_XE] = True
        np.fill_diagonal(link_NN, False)
        return link_NN | link_NN.T if self.charge_return else link_NN

    @cached_property
    def price_LM(self) -> Floats:
        """J per bit of each scheduled link on each subcarrier, inf without gain."""
        return np.asarray(self.price_NNM[self.link_NN])

    @cached_property
    def best_price_L(self) -> Floats:
        """J per bit of each scheduled link on its best subcarrier."""
        return np.asarray(self.price_LM.min(axis=1))

    @property
    def every_link_is_served(self) -> bool:
        """True if there are at least as many subcarriers as links, and every link can use each of them."""
        links, subcarriers = self.price_LM.shape
        return links <= subcarriers and bool(np.isfinite(self.price_LM).all())

    def energy_TE(self, price_L: Floats) -> Floats:
        """Return (T, E), J to have each item served by each expert, at these link prices in J per bit."""
        price_NN = np.zeros((self.nodes, self.nodes))
        price_NN[self.link_NN] = price_L
        if self.charge_return:
            price_NN = price_NN + price_NN.T
        if len(self.node_XE) == 1:
            energy_TE = price_NN[:, self.node_XE[0]].take(self.source_T, axis=0)
        else:
            energy_TE = price_NN[self.source_T[:, np.newaxis], self.node_XE]
        energy_TE *= self.bits_T[:, np.newaxis]
        energy_TE += self.compute_j_E
        if not self._all_reachable:
            energy_TE[~self.reachable_TE] = np.inf
        return energy_TE

    def select(self, price_L: Floats) -> Selection:
        """Return the cheapest sets of experts at these link prices: P1 for every item."""
        return cheapest_sets(self.scores_TE, self.energy_TE(price_L), self.threshold_T, self.max_experts)

    def least_j(self, energy_j_I: Floats) -> float:
        """Return J that no other sets for the items of these energies cost less than.

        Up to two experts are compared exactly, more to a tolerance.
        """
        energy_j = float(energy_j_I[np.isfinite(energy_j_I)].sum())
        return energy_j if self.max_experts <= 2 else energy_j * (1 - TOLERANCE)

    def node_P(self, item_P: Indices, expert_P: Indices) -> Indices:
        """Return the node of each pair."""
        if len(self.node_XE) == 1:
            return np.asarray(self.node_XE[0][expert_P])
        return np.asarray(self.node_XE[item_P, expert_P])

    def load_L(self, mask_TE: NDArray[np.bool_]) -> Floats:
        """Return the bits that each scheduled link carries under a selection."""
        place_P = np.flatnonzero(mask_TE)
        bits_P = self.bits_T.take(place_P // mask_TE.shape[1])
        return self._sum_by_link(self._link_TE.take(place_P), bits_P)

    def sum_L(self, item_P: Indices, expert_P: Indices, value_P: Floats) -> Floats:
        """Return for each scheduled link the sum of the values of the pairs that use it."""
        return self._sum_by_link(self._link_TE[item_P, expert_P], value_P)

    @cached_property
    def _all_reachable(self) -> bool:
        return bool(self.reachable_TE.all())

    @cached_property
    def _link_TE(self) -> Indices:
        """The number i N + j of the directed link from each item's node to each expert's."""
        return self.source_T[:, np.newaxis] * self.nodes + self.node_XE

    def _sum_by_link(self, link_P: Indices, value_P: Floats) -> Floats:
        value_NN = np.bincount(link_P, weights=value_P, minlength=self.nodes**2)
        value_NN = value_NN.reshape(self.nodes, self.nodes)
        if self.charge_return:
            value_NN = value_NN + value_NN.T
        return np.asarray(value_NN[self.link_NN])
