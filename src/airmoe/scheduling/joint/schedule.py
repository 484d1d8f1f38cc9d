"""JESA: the joint choice of a layer's experts and subcarriers (P2 of arXiv 2503.13421), with a bound.

Shape suffixes: T items, E experts, N nodes, M subcarriers, L scheduled links.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from airmoe.checks import (
    flags,
    indices,
    integer_at_least,
    numbers_within,
    real_array,
    refuse_shape,
    refuse_where,
)
from airmoe.errors import InvalidInputError, one_of
from airmoe.links import Links, Ofdma
from airmoe.randomness import stream
from airmoe.scheduling.cost import MOST_J
from airmoe.scheduling.joint.bounds import TightBound
from airmoe.scheduling.joint.descent import (
    Schedule,
    descend,
    fitting_load,
    greedy,
    load_of,
    schedule_of,
    standing,
)
from airmoe.scheduling.joint.layer import Floats, Layer
from airmoe.scheduling.policy import check_scores
from airmoe.scheduling.selection.hard_items import EXACT
from airmoe.scheduling.selection.select import Selection
from airmoe.showing import MOST_CELLS, OneLine, heat_map, in_html

Bound = Literal["none", "fast", "tight"]
MOST_J_PER_BIT = 1e200

WORTH_A_DESCENT = 0.03
"""The relative saving that the bound must leave possible before a further start is tried."""


@dataclass(frozen=True, eq=False, repr=False)
class Plan(OneLine):
    """Experts and subcarriers of one layer, chosen together.

    Attributes:
        selection: the experts of each item; energies are those under `subcarrier`.
        subcarrier: int64 (N, N), the subcarrier of link i -> j, -1 for none; idle links may have one, too.
        energy_j: J of the whole layer, `comm_j` + `compute_j`.
        comm_j: J of all transfers.
        compute_j: J of all computation.
        airtime_s: s that the busiest link is on the air.
        lower_bound_j: J, at most the energy of any schedule in which as few items miss their threshold; 0 if
            no bound was asked for, or if more items miss it than with every link on its best subcarrier.
        gap: how far `energy_j` may be above the optimum, relative to `lower_bound_j`; inf if that bound is 0
            and the energy is not.
        proven_optimal: True if the energy is the least possible, to a relative 1e-9.
        iterations: number of rounds of the descent that found the plan.
        round_energy_j: J after each of these rounds, never rising, without `compute_j_fixed`.
    """

    selection: Selection
    subcarrier: NDArray[np.int64]
    energy_j: float
    comm_j: float
    compute_j: float
    airtime_s: float
    lower_bound_j: float
    gap: float
    proven_optimal: bool
    iterations: int
    round_energy_j: tuple[float, ...]

    def __repr__(self) -> str:
        proof = "proven optimal" if self.proven_optimal else f"gap at most {self.gap:.2g}"
        experts = f"{self.selection.mask.sum()} experts for {len(self.selection.mask)} items"
        return f"Plan({experts}, {self.energy_j:.3g} J, {proof})"

    def _repr_html_(self) -> str:
        """Return the subcarrier of every link, a colour each."""
        if len(self.subcarrier) > MOST_CELLS:
            return in_html(self)
        subcarrier_NN = np.where(self.subcarrier < 0, np.nan, self.subcarrier)

        def tip(source: int, node: int) -> str:
            given = self.subcarrier[source, node]
            return f"link {source} to {node}: {'none' if given < 0 else f'subcarrier {given}'}"

        return heat_map(subcarrier_NN, f"Subcarriers. {self!r}", tip, hues=int(self.subcarrier.max()) + 1)


def schedule_layer(
    scores: ArrayLike,
    source: ArrayLike,
    gain: ArrayLike,
    radio: Ofdma,
    *,
    threshold: ArrayLike = 0.5,
    max_experts: int = 2,
    placement: ArrayLike | None = None,
    reachable: ArrayLike | None = None,
    token_bits: ArrayLike = 65536,
    compute_j_per_token: ArrayLike = 0.0,
    compute_j_fixed: ArrayLike = 0.0,
    bound: Bound = "fast",
    restarts: int = 0,
    seed: int = 0,
) -> Plan:
    """Choose experts and subcarriers of one layer for the least energy: JESA, block coordinate descent.

    Two exact steps alternate. With subcarriers fixed, P1 is solved for every item (`select_experts`). With
    the selection fixed, every link is assigned a subcarrier of its own (Kuhn-Munkres). So the energy never
    rises, but the descent may end in a local optimum. A bound tells whether it is the global one, and
    restarts often leave it. Where all thresholds are met, no plan costs more than selection over the
    assignment for equal loads (`allocate_subcarriers`). Only links from a node with items to a node with
    experts are scheduled. Missing a threshold weighs more than any energy. If there are fewer subcarriers
    than links in use, the links that matter least close.

    Args:
        scores: t, (T, E), finite, >= 0.
        source: integer (T,), the node that holds each item.
        gain: H, (N, N, M), power gain of link i -> j on subcarrier m, linear, finite, >= 0.
        radio: the OFDMA radio; M is its number of subcarriers. It says whether outputs are charged, too.
        threshold: q, one number or (T,), from 0 to 1.
        max_experts: D, an integer >= 1.
        placement: integer (E,), the node of each expert, or (T, E), the node that would serve each item by
            each expert; left out, expert e is on node e.
        reachable: bool (T, E), False where an item must not go to an expert; left out, all True.
        token_bits: s0, bits of a payload, one number or (T,), > 0. The default is a hidden state of 4096
            values of 16 bits.
        compute_j_per_token: a_j, J that an expert spends on an item, one number or (E,), >= 0.
        compute_j_fixed: b_j, J that an expert spends if it is used at all, one number or (E,), >= 0. It is
            reported and not optimised; a plan with any of it is never called proven.
        bound: "none", "fast" (every link on its best subcarrier, exclusive or not: LB of the paper) or
            "tight" (see `airmoe.scheduling.joint.bounds`).
        restarts: how many more descents begin at perturbed loads, while the plan is not proven.
        seed: seed of the restarts, >= 0.

    Raises:
        InvalidInputError: a shape is wrong, or a value is not allowed; the error names it and its index.

    Examples:
        >>> from airmoe.links import Links, Ofdma
        >>> from airmoe.scheduling import schedule_layer
        >>> radio = Ofdma(subcarriers=3)
        >>> gain_NNM = Links.from_snr(10.0, radio, nodes=2).gain_NNM
        >>> plan = schedule_layer([[0.2, 0.8], [0.6, 0.4]], [0, 0], gain_NNM, radio, max_experts=1)
        >>> plan.selection.mask.tolist()  # the second item stays at its node, for nothing
        [[False, True], [True, False]]
        >>> plan.proven_optimal, round(plan.energy_j * 1e6)  # 65,536 bits at 0.01 W and 3.46 Mbit/s
        (True, 189)
    """
    layer = _checked_layer(
        scores,
        source,
        gain,
        radio,
        threshold,
        max_experts,
        placement,
        reachable,
        token_bits,
        compute_j_per_token,
    )
    fixed_j_E = _per_expert("compute_j_fixed", compute_j_fixed, layer.scores_TE.shape[1])
    if bound not in get_args(Bound):
        raise InvalidInputError("bound", bound, one_of(bound, get_args(Bound)))
    integer_at_least("restarts", restarts, 0)
    integer_at_least("seed", seed, 0)

    descent = _Descents(layer, bound == "tight")
    for restart in range(restarts):
        if descent.proven:
            break
        descent.restart(stream(seed, "jesa restarts", restart))
    descent.tighten()
    proven_j = 0.0 if bound == "none" else descent.bound_j
    return _plan(layer, descent.best, fixed_j_E, descent.missed, proven_j, radio.power_w)


class _Descents:
    """The best schedule of several descents, and a lower bound for all schedules that miss as few thresholds.

    The first descent begins with the loads of the relaxation in which every link has its best subcarrier.
    Unless it is proven, the standing assignment is tried, too. Where the bound leaves room, descents also
    begin there and at a greedy assignment.
    """

    def __init__(self, layer: Layer, tight: bool) -> None:
        relaxed = layer.select(layer.best_price_L)
        self.missed, self.bound_j = int((~relaxed.feasible).sum()), layer.least_j(relaxed.energy_j)
        self._layer, self._bounded, self._tight = layer, layer, tight
        if self.missed and not layer.every_link_is_served:
            # The energy of an item that misses its threshold depends on which experts it reaches.
            # The bound counts only the other items.
            met_TE = layer.reachable_TE & relaxed.feasible[:, np.newaxis]
            self._bounded = replace(layer, reachable_TE=met_TE)
            self.bound_j = layer.least_j(relaxed.energy_j[relaxed.feasible])
        links, subcarriers = layer.price_LM.shape
        self._scarce = links > subcarriers
        load_L = layer.load_L(relaxed.mask)
        if self._scarce:
            load_L = fitting_load(layer, layer.best_price_L)
        self.best = descend(layer, load_L)
        if not self.proven:
            start = schedule_of(layer, standing(layer))
            self._keep(start)
            if self._room > WORTH_A_DESCENT:
                self._keep(descend(layer, load_of(layer, start), start))
        if self._room > WORTH_A_DESCENT:
            start = schedule_of(layer, greedy(layer, load_L))
            self._keep(descend(layer, load_of(layer, start), start))
        self._tightened: Schedule | None = None
        self.tighten()

    @property
    def proven(self) -> bool:
        """True if the best schedule is known to be optimal."""
        missed, energy_j = self.best.rank
        return missed == self.missed and energy_j <= self.bound_j * (1 + EXACT)

    def restart(self, noise: np.random.Generator) -> None:
        """Descend from perturbed loads; if links have to close, from the loads of another choice of links."""
        layer = self._layer
        if self._scarce:
            factor_L = noise.lognormal(0.0, 1.0, layer.best_price_L.size)
            load_L = fitting_load(layer, layer.best_price_L * factor_L)
        else:
            load_L = layer.load_L(self.best.selection.mask)
            extra_L = load_L.mean() * noise.exponential(0.3, load_L.size)
            load_L = load_L * noise.lognormal(0.0, 0.7, load_L.size) + extra_L
        self._keep(descend(layer, load_L))

    @property
    def _room(self) -> float:
        """How much dearer than the bound the best schedule is, relative to the bound."""
        missed, energy_j = self.best.rank
        if missed > self.missed:
            return np.inf
        return energy_j / self.bound_j - 1 if self.bound_j > 0 else np.inf * (energy_j > 0)

    def _keep(self, other: Schedule) -> None:
        if other.rank < self.best.rank:
            self.best = other

    def tighten(self) -> None:
        """Tighten the bound by the best schedule, if a tight one was asked for and this was not done yet."""
        missed, energy_j = self.best.rank
        if self._tight and missed == self.missed and not self.proven and self.best is not self._tightened:
            bound = TightBound(self._bounded, self.best.column_L, energy_j)
            self.bound_j, self._tightened = max(self.bound_j, bound.tighten()), self.best


def _plan(
    layer: Layer, best: Schedule, fixed_j_E: Floats, missed: int, bound_j: float, power_w: float
) -> Plan:
    energy_j = best.rank[1]
    mask_TE = best.selection.mask
    compute_j = float((mask_TE * layer.compute_j_E).sum())
    fixed_j = float(fixed_j_E[mask_TE.any(axis=0)].sum())
    subcarrier_NN = np.full((layer.nodes, layer.nodes), -1, dtype=np.int64)
    subcarrier_NN[layer.link_NN] = best.column_L
    whole_j = energy_j + fixed_j
    if best.rank[0] > missed:
        bound_j, gap = 0.0, np.inf
    elif whole_j > 0:
        gap = max(whole_j / bound_j - 1, 0.0) if bound_j > 0 else np.inf
    else:
        gap = 0.0
    return Plan(
        selection=best.selection,
        subcarrier=subcarrier_NN,
        energy_j=whole_j,
        comm_j=max(energy_j - compute_j, 0.0),
        compute_j=compute_j + fixed_j,
        airtime_s=_busiest_j(layer, best) / power_w,
        lower_bound_j=bound_j,
        gap=gap,
        proven_optimal=bool(gap <= EXACT and not fixed_j_E.any()),
        iterations=len(best.falling_j),
        round_energy_j=best.falling_j,
    )


def _busiest_j(layer: Layer, best: Schedule) -> float:
    """Return the largest energy that any link spends."""
    load_L = layer.load_L(best.selection.mask)
    used_L = np.flatnonzero(load_L)
    energy_L = load_L[used_L] * layer.price_LM[used_L, best.column_L[used_L]]
    return float(energy_L.max(initial=0.0))


def _checked_layer(
    scores: ArrayLike,
    source: ArrayLike,
    gain: ArrayLike,
    radio: Ofdma,
    threshold: ArrayLike,
    max_experts: int,
    placement: ArrayLike | None,
    reachable: ArrayLike | None,
    token_bits: ArrayLike,
    compute_j_per_token: ArrayLike,
) -> Layer:
    scores_TE = check_scores("scores", scores)
    items, experts = scores_TE.shape
    gain_NNM = Links.from_gain(real_array("gain", gain), radio).gain_NNM
    nodes = len(gain_NNM)
    source_T = indices("source", source, 0, nodes - 1)
    refuse_shape("source", source_T, (items,), "(T,)")
    placed = indices("placement", np.arange(experts) if placement is None else placement, 0, nodes - 1)
    if placed.shape not in ((experts,), (items, experts)):
        expected = f"(E,) = {(experts,)} or (T, E) = {(items, experts)}"
        raise InvalidInputError("shape of placement", placed.shape, expected)
    node_XE = placed if placed.ndim == 2 else placed[np.newaxis]
    threshold_T = _per_item("threshold", numbers_within("threshold", threshold, 0, 1), items)
    bits_X = real_array("token_bits", token_bits)
    refuse_where("token_bits", bits_X, ~(np.isfinite(bits_X) & (bits_X > 0)), "a finite number above 0")
    bits_T = _per_item("token_bits", bits_X, items)
    reachable_TE = np.ones(scores_TE.shape, dtype=np.bool_)
    if reachable is not None:
        reachable_TE = flags("reachable", reachable)
        refuse_shape("reachable", reachable_TE, (items, experts), "(T, E)")
    return Layer(
        scores_TE=np.ascontiguousarray(scores_TE),
        threshold_T=threshold_T,
        max_experts=integer_at_least("max_experts", max_experts, 1),
        source_T=source_T,
        node_XE=node_XE,
        bits_T=bits_T,
        compute_j_E=_per_expert("compute_j_per_token", compute_j_per_token, experts),
        reachable_TE=reachable_TE,
        price_NNM=_usable(radio.energy_per_bit_j(gain_NNM)),
        charge_return=radio.charge_return,
    )


def _usable(price_NNM: Floats) -> Floats:
    """Set prices to inf that are too large to be added up: such a link is none."""
    price_NNM[price_NNM > MOST_J_PER_BIT] = np.inf
    return price_NNM


def _per_item(name: str, array: Floats, items: int) -> Floats:
    if array.shape not in ((), (items,)):
        raise InvalidInputError(f"shape of {name}", array.shape, f"a number or (T,) = {(items,)}")
    return np.broadcast_to(array, (items,))


def _per_expert(name: str, value: ArrayLike, experts: int) -> Floats:
    array = real_array(name, value)
    if array.shape not in ((), (experts,)):
        raise InvalidInputError(f"shape of {name}", array.shape, f"a number or (E,) = {(experts,)}")
    refuse_where(name, array, ~((array >= 0) & (array <= MOST_J)), f"0 to {MOST_J:g} J")
    return np.broadcast_to(array, (experts,))
