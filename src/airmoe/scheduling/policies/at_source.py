"""Policies that decide at the source, from its own items alone.

Shape suffixes: T items, E experts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from airmoe.checks import integer_at_least, number_within, positive_number
from airmoe.errors import InvalidInputError
from airmoe.randomness import stream
from airmoe.scheduling.cost import Cost
from airmoe.scheduling.policies.requirement import Requirement
from airmoe.scheduling.policy import Routing, Slot, check_inputs, routing_of
from airmoe.scheduling.selection.select import select_experts
from airmoe.spec_text import SpecText


@dataclass(frozen=True)
class _SmallestK(SpecText, ABC):
    """The k reachable experts with the smallest key; ties go to the lower index."""

    k: int
    joint: ClassVar[bool] = False

    def __post_init__(self) -> None:
        integer_at_least("k", self.k, 1)

    @abstractmethod
    def key_TE(self, scores_TE: NDArray[np.float64], cost: Cost, slot: Slot) -> NDArray[np.float64]:
        """Return what is compared, float64 (T, E)."""

    def route(self, scores_TE: ArrayLike, cost: Cost, slot: Slot) -> Routing:
        """Choose; see `Policy.route`."""
        key_TE = self.key_TE(check_inputs(scores_TE, cost, slot), cost, slot)
        nearest_TE = np.where(cost.reachable_TE, key_TE, np.inf)
        first_TK = np.argsort(nearest_TE, axis=1, kind="stable")[:, : self.k]
        mask_TE = np.zeros(key_TE.shape, dtype=np.bool_)
        mask_TE[np.arange(len(mask_TE))[:, np.newaxis], first_TK] = True
        return routing_of(mask_TE & cost.reachable_TE, cost)


@dataclass(frozen=True)
class TopK(_SmallestK, rule="topk"):
    """The k best scores among the reachable experts, whatever they cost: "topk:2".

    Examples:
        >>> from airmoe.scheduling import Cost, Slot, TopK
        >>> slot = Slot(source_T=[0], placement=[0, 1, 2])  # one item at node 0, expert e at node e
        >>> cost = Cost([[0.0, 3e-5, 1e-5]])
        >>> TopK(2).route([[0.1, 0.6, 0.3]], cost, slot).mask_TE.tolist()
        [[False, True, True]]
    """

    def key_TE(self, scores_TE: NDArray[np.float64], cost: Cost, slot: Slot) -> NDArray[np.float64]:
        """Return the scores, negated."""
        return -scores_TE


@dataclass(frozen=True)
class RandomK(_SmallestK, rule="random", written=("k",)):
    """k experts drawn uniformly among the reachable ones: "random:1".

    Each call continues the random stream where the last one stopped.

    Args:
        k: how many.
        seed: of the draws.
    """

    seed: int = 0
    _stream: np.random.Generator = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        integer_at_least("seed", self.seed, 0)
        object.__setattr__(self, "_stream", stream(self.seed, "random policy"))

    def key_TE(self, scores_TE: NDArray[np.float64], cost: Cost, slot: Slot) -> NDArray[np.float64]:
        """Return random numbers."""
        return self._stream.random(scores_TE.shape)


@dataclass(frozen=True)
class Cheapest(_SmallestK, rule="cheapest"):
    """The k cheapest reachable experts, whatever their scores: "cheapest:1".

    No other k experts cost less energy. An expert at the item's own node costs none, so it is among them.
    """

    def key_TE(self, scores_TE: NDArray[np.float64], cost: Cost, slot: Slot) -> NDArray[np.float64]:
        """Return the energy of each expert."""
        return cost.energy_j_TE


@dataclass(frozen=True)
class BestLink(_SmallestK, rule="best-link"):
    """The k reachable experts with the best observed SNR, whatever their scores: "best-link:1".

    An expert at the item's own node needs no link and counts as 30 dB: mostly it is the first of the k.
    """

    def key_TE(self, scores_TE: NDArray[np.float64], cost: Cost, slot: Slot) -> NDArray[np.float64]:
        """Return the observed SNR, negated.

        Raises:
            InvalidInputError: the slot says nothing about SNR.
        """
        if (snr_db_TE := slot.observed_snr_db_TE) is None:
            raise InvalidInputError("slot.snr", None, "links, or an SNR for each item and expert")
        return -snr_db_TE


@dataclass(frozen=True)
class Local(SpecText, rule="local"):
    """The experts at the item's own node and no other: "local".

    At a node without experts the row is empty and infeasible.
    """

    joint: ClassVar[bool] = False

    def route(self, scores_TE: ArrayLike, cost: Cost, slot: Slot) -> Routing:
        """Choose; see `Policy.route`."""
        check_inputs(scores_TE, cost, slot)
        return routing_of(slot.at_home_TE & cost.reachable_TE, cost)


@dataclass(frozen=True)
class Wlr(SpecText, rule="wlr", needed=1):
    """Weight-to-latency ratio, after WDMoE (arXiv 2405.03131): "wlr:0.5". The formula is ours.

    Expert j has the score t_j and the latency tau_j = s0 / r + compute_s. The airtime s0 / r comes from the
    cost and is 0 at the item's own node. An expert is chosen if t_j / tau_j is at least theta times the
    largest such ratio.

    Args:
        theta: from 0 to 1; 1 takes the best ratio alone.
        compute_s: seconds that an expert takes.
    """

    theta: float = 0.5
    compute_s: float = 1e-4
    joint: ClassVar[bool] = False

    def __post_init__(self) -> None:
        number_within("theta", self.theta, 0, 1)
        positive_number("compute_s", self.compute_s)

    def route(self, scores_TE: ArrayLike, cost: Cost, slot: Slot) -> Routing:
        """Choose; see `Policy.route`."""
        scores = check_inputs(scores_TE, cost, slot)
        ratio_TE = scores / (cost.airtime_s_TE + self.compute_s)
        best_T1 = np.where(cost.reachable_TE, ratio_TE, 0.0).max(axis=1, keepdims=True)
        return routing_of((ratio_TE >= self.theta * best_T1) & cost.reachable_TE, cost)


@dataclass(frozen=True)
class All(SpecText, rule="all"):
    """Every reachable expert: "all"."""

    joint: ClassVar[bool] = False

    def route(self, scores_TE: ArrayLike, cost: Cost, slot: Slot) -> Routing:
        """Choose; see `Policy.route`."""
        check_inputs(scores_TE, cost, slot)
        return routing_of(cost.reachable_TE, cost)


@dataclass(frozen=True)
class Des(Requirement, SpecText, rule="des", needed=2):
    """Dynamic expert selection: the cheapest experts that meet a `Requirement`, found exactly: "des:0.5:2".

    The search is `select_experts`.

    Examples:
        >>> from airmoe.scheduling import Cost, Des, Slot
        >>> slot = Slot(source_T=[0], placement=[0, 1, 2])  # one item at node 0, expert e at node e
        >>> routing = Des(importance=0.4).route([[0.1, 0.6, 0.3]], Cost([[0.0, 3e-5, 1e-5]]), slot)
        >>> routing.mask_TE.tolist()  # 0.1 + 0.3 suffice, for less than 0.6
        [[True, False, True]]
    """

    joint: ClassVar[bool] = False

    def route(self, scores_TE: ArrayLike, cost: Cost, slot: Slot) -> Routing:
        """Choose; see `Policy.route`."""
        scores = check_inputs(scores_TE, cost, slot)
        selection = select_experts(scores, cost.energy_j_TE, self.threshold(slot.layer), self.max_experts)
        return Routing(selection.mask, selection.energy_j, selection.feasible)
