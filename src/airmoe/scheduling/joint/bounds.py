"""A lower bound on the energy of a layer's schedules that respects exclusive subcarriers; beyond the paper.

Let c_lm = best_l + d_lm be the price of link l on subcarrier m, and n_l the bits on link l. A schedule costs

    sum_l n_l c_l,beta(l) = sum_l n_l (best_l + pi_l) + sum_l n_l (d_l,beta(l) - pi_l)

for any premiums pi_l >= 0. The first sum is at least P1 at the prices best + pi. For the second sum, let
low_l <= n_l <= high_l hold for every schedule that costs no more than the one at hand. The second sum is then
at least the cheapest assignment with the costs low_l (d_lm - pi_l) where d_lm >= pi_l, and
high_l (d_lm - pi_l) elsewhere. The intervals follow from the cost of forcing an expert into or out of an
item's set. A better bound narrows them.

Rounding never lifts the bound above the true one. Every term is rounded down before it is added, by a few
units in its last place; the costs of the assignment are rounded down to multiples of one power of two, so
small that all sums of them are exact. Together this takes about L^2 2e-15 + 3e-12 of the energy (1e-11 for 56
links), and where D > 2 a relative 9.5e-10, the tolerance of a selection.

Shape suffixes: T items, E experts, M subcarriers, L scheduled links, P (item, expert) pairs.
"""

from dataclasses import dataclass

import numpy as np

from airmoe.scheduling.joint.allocation import assigned
from airmoe.scheduling.joint.descent import price_of
from airmoe.scheduling.joint.layer import Floats, Indices, Layer
from airmoe.scheduling.joint.marginals import undecided
from airmoe.scheduling.selection.hard_items import EXACT
from airmoe.scheduling.selection.select import Selection

STEPS = 10
"""Supergradient steps on the premiums; a step costs about a selection and an assignment."""

STEPS_BETWEEN_INTERVALS = 5
MEMORY = 0.7  # share of the last direction that is kept; without it the premiums zigzag
SHRINK = 0.9  # factor on the step's length after a step that did not help
ROUNDING = 1e-12  # largest rounding error of a sum of positive terms, relative
EPSILON = 4 * np.finfo(float).eps  # largest rounding error of a few operations, relative to their terms


@dataclass(frozen=True, eq=False)
class _Point:
    """The bound at some premiums, the cheapest selection there, and the direction of the bound's growth."""

    premium_L: Floats
    bound_j: float
    selection: Selection
    ascent_L: Floats


class TightBound:
    """A lower bound on the energy of all schedules of a layer, tightened step by step.

    Args:
        layer: the layer.
        column_L: the subcarriers of the schedule at hand.
        energy_j: J, the energy of the schedule at hand. The bound need only hold for schedules that cost no
            more.
    """

    def __init__(self, layer: Layer, column_L: Indices, energy_j: float) -> None:
        self._layer, self._column_L, self._energy_j = layer, column_L, energy_j
        usable_LM = np.isfinite(layer.price_LM)
        self._best_L = np.where(np.isfinite(layer.best_price_L), layer.best_price_L, 0.0)
        detour_LM = np.where(usable_LM, layer.price_LM - self._best_L[:, np.newaxis], np.inf)
        self._detour_LM = detour_LM * (1 - EPSILON)
        self._low_L = np.zeros(len(column_L))
        self._high_L = layer.load_L(layer.reachable_TE)
        # At a higher premium one item on the link would cost more than the whole schedule.
        self._most_premium = energy_j / layer.bits_T.min(initial=np.inf)

    def tighten(self) -> float:
        """Return the bound in J; it is never above the energy of the schedule at hand."""
        own_L = price_of(self._layer, self._column_L, self._best_L) - self._best_L
        own_L = np.minimum(own_L, self._most_premium)
        best = self._at(np.zeros_like(own_L))
        for premium_L in (own_L, own_L / 2):
            best = self._narrowed(best)
            point = self._at(premium_L)
            best = max(best, point, key=lambda point: point.bound_j)
        best = point = self._narrowed(best)
        direction_L, share = point.ascent_L, 1.0
        for step in range(STEPS):
            if best.bound_j >= self._energy_j * (1 - EXACT) or not direction_L.any():
                break
            length = share * (self._energy_j - point.bound_j) / (direction_L**2).sum()
            premium_L = np.clip(point.premium_L + length * direction_L, 0.0, self._most_premium)
            point = self._at(premium_L)
            direction_L = point.ascent_L + MEMORY * direction_L
            if point.bound_j > best.bound_j:
                best = point
            else:
                share *= SHRINK
            if step % STEPS_BETWEEN_INTERVALS == STEPS_BETWEEN_INTERVALS - 1:
                best = point = self._narrowed(best)
                direction_L = point.ascent_L
        return min(best.bound_j, self._energy_j)

    def _at(self, premium_L: Floats) -> _Point:
        layer = self._layer
        selection = layer.select(layer.best_price_L + premium_L)
        detour_LM = self._detour_LM - (premium_L * (1 + EPSILON))[:, np.newaxis]
        low_L, high_L = self._low_L * (1 - ROUNDING), self._high_L * (1 + ROUNDING)
        bits_LM = np.where(detour_LM >= 0, low_L[:, np.newaxis], high_L[:, np.newaxis])
        with np.errstate(invalid="ignore"):
            cost_LM = np.where(bits_LM > 0, bits_LM * detour_LM, 0.0)
        least_j, column_L = _cheapest_assignment(cost_LM, self._low_L, self._energy_j)
        served = np.flatnonzero(column_L >= 0)
        bits_L = np.zeros_like(premium_L)
        # Where premium and detour are the same but for rounding, a higher premium may gain more.
        dearer = detour_LM[served, column_L[served]] >= -3 * EPSILON * premium_L[served]
        bits_L[served] = np.where(dearer, self._low_L[served], self._high_L[served])
        bound_j = layer.least_j(selection.energy_j) * (1 - ROUNDING) + least_j
        return _Point(premium_L, bound_j, selection, layer.load_L(selection.mask) - bits_L)

    def _narrowed(self, point: _Point) -> _Point:
        """Narrow the intervals to schedules that cost no more than the one at hand, and bound again."""
        gap_j = self._energy_j - point.bound_j + ROUNDING * self._energy_j
        possible_TE, certain_TE = undecided(
            self._layer, self._layer.best_price_L + point.premium_L, point.selection, gap_j
        )
        high_L = self._layer.load_L(possible_TE)
        low_L = self._layer.load_L(certain_TE)
        if (high_L >= self._high_L).all() and (low_L <= self._low_L).all():
            return point
        self._high_L = np.minimum(high_L, self._high_L)
        self._low_L = np.maximum(low_L, self._low_L)
        return self._at(point.premium_L)


def _cheapest_assignment(cost_LM: Floats, low_L: Floats, energy_j: float) -> tuple[float, Indices]:
    """Return at most the least sum of costs with one subcarrier per link, and an assignment that is near it.

    Links that carry no bits may get none. Sums above `energy_j` need not be told apart.
    """
    links = len(cost_LM)
    # A sum with one cost of `most` is above `energy_j`, whatever the others save.
    most = energy_j - cost_LM.min(axis=1, initial=0.0).sum()
    # Sums of up to 4 L multiples of the grid are exact.
    grid_j = 2.0 ** np.ceil(np.log2(4 * max(links, 1) * most * np.finfo(float).eps)) if most > 0 else 1.0
    cost_LM = np.floor(np.minimum(cost_LM, most) / grid_j) * grid_j
    without_L = np.floor(np.where(low_L > 0, most, 0.0) / grid_j) * grid_j
    column_L = assigned(cost_LM, without_L)
    paid_L = np.where(column_L >= 0, cost_LM[np.arange(links), column_L], without_L)
    return float(paid_L.sum()), column_L
