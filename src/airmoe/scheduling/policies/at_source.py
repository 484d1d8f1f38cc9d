"""Policies that decide at the source, from its own items alone.

Shape suffixes: T items, E experts.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from airmoe.checks import integer_at_least, number_within, positive_number
from airmoe.errors import InvalidInputError
from airmoe.randomness import stream
from airmoe.scheduling.cost import Cost
from airmoe.scheduling.policy import Routing, Slot, check_inputs, routing_of
from airmoe.scheduling.selection.select import select_experts


@dataclass(frozen=True)
class TopK:
    """The k best scores among the reachable experts; ties go to the lower index; energy is ignored."""

    k: int
    joint: ClassVar[bool] = False

    def __post_init__(self) -> None:
        integer_at_least("k", self.k, 1)

    @property
    def name(self) -> str:
        """E.g. "topk:2"."""
        return f"topk:{self.k}"

    def route(self, scores_TE: ArrayLike, cost: Cost, slot: Slot) -> Routing:
        """Choose; see `Policy.route`."""
        scores = check_inputs(scores_TE, cost, slot)
        return routing_of(_smallest(-scores, cost.reachable_TE, self.k), cost)


@dataclass(frozen=True)
class RandomK:
    """k experts drawn uniformly among the reachable ones; each call goes on where the last one stopped."""

    k: int
    seed: int = 0
    joint: ClassVar[bool] = False
    _stream: np.random.Generator = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        integer_at_least("k", self.k, 1)
        integer_at_least("seed", self.seed, 0)
        object.__setattr__(self, "_stream", stream(self.seed, "random policy"))

    @property
    def name(self) -> str:
        """E.g. "random:1"."""
        return f"random:{self.k}"

    def route(self, scores_TE: ArrayLike, cost: Cost, slot: Slot) -> Routing:
        """Choose; see `Policy.route`."""
        scores = check_inputs(scores_TE, cost, slot)
        return routing_of(_smallest(self._stream.random(scores.shape), cost.reachable_TE, self.k), cost)


@dataclass(frozen=True)
class Local:
    """The experts at the item's own node, and no other; a node without any gets an empty, infeasible row."""

    joint: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """Always "local"."""
        return "local"

    def route(self, scores_TE: ArrayLike, cost: Cost, slot: Slot) -> Routing:
        """Choose; see `Policy.route`."""
        check_inputs(scores_TE, cost, slot)
        return routing_of(slot.at_home_TE & cost.reachable_TE, cost)


@dataclass(frozen=True)
class Cheapest:
    """The k cheapest reachable experts, whatever their scores: the least energy that k experts can cost."""

    k: int
    joint: ClassVar[bool] = False

    def __post_init__(self) -> None:
        integer_at_least("k", self.k, 1)

    @property
    def name(self) -> str:
        """E.g. "cheapest:1"."""
        return f"cheapest:{self.k}"

    def route(self, scores_TE: ArrayLike, cost: Cost, slot: Slot) -> Routing:
        """Choose; see `Policy.route`."""
        check_inputs(scores_TE, cost, slot)
        return routing_of(_smallest(cost.energy_j_TE, cost.reachable_TE, self.k), cost)


@dataclass(frozen=True)
class BestLink:
    """The k reachable experts with the best observed SNR, whatever their scores: max-SNR routing."""

    k: int
    joint: ClassVar[bool] = False

    def __post_init__(self) -> None:
        integer_at_least("k", self.k, 1)

    @property
    def name(self) -> str:
        """E.g. "best-link:1"."""
        return f"best-link:{self.k}"

    def route(self, scores_TE: ArrayLike, cost: Cost, slot: Slot) -> Routing:
        """Choose; see `Policy.route`.

        Raises:
            InvalidInputError: the slot says nothing about SNR.
        """
        check_inputs(scores_TE, cost, slot)
        if (snr_db_TE := slot.observed_snr_db_TE) is None:
            raise InvalidInputError("slot.snr", None, "links, or an SNR for each item and expert")
        return routing_of(_smallest(-snr_db_TE, cost.reachable_TE, self.k), cost)


@dataclass(frozen=True)
class Wlr:
    """Weight-to-latency ratio, after WDMoE (arXiv 2405.03131); the formula is ours.

    With latency tau_j = s0 / r + compute_s, just compute_s at the item's own node, an expert is chosen if
    t_j / tau_j is at least theta times the largest such ratio. The airtime s0 / r is that of the cost.

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

    @property
    def name(self) -> str:
        """E.g. "wlr:0.5", or "wlr:0.5:0.001" where computation does not take 1e-4 s."""
        name = f"wlr:{shortest(self.theta)}"
        return name if self.compute_s == 1e-4 else f"{name}:{shortest(self.compute_s)}"

    def route(self, scores_TE: ArrayLike, cost: Cost, slot: Slot) -> Routing:
        """Choose; see `Policy.route`."""
        scores = check_inputs(scores_TE, cost, slot)
        ratio_TE = scores / (cost.airtime_s_TE + self.compute_s)
        enough_TE = ratio_TE >= self.theta * ratio_TE.max(axis=1, keepdims=True)
        return routing_of(enough_TE & cost.reachable_TE, cost)


@dataclass(frozen=True)
class All:
    """Every reachable expert."""

    joint: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """Always "all"."""
        return "all"

    def route(self, scores_TE: ArrayLike, cost: Cost, slot: Slot) -> Routing:
        """Choose; see `Policy.route`."""
        check_inputs(scores_TE, cost, slot)
        return routing_of(cost.reachable_TE, cost)


@dataclass(frozen=True)
class Des:
    """Dynamic expert selection: the cheapest experts whose scores suffice, solved exactly (`select_experts`).

    Chosen scores must sum to at least q = z * importance^layer, so that deeper layers ask for less.

    Args:
        importance: gamma0, from 0 to 1.
        max_experts: D, the most experts an item may get.
        z: the requirement before the layer's importance, from 0 to 1.
    """

    importance: float = 0.5
    max_experts: int = 2
    z: float = 1.0
    joint: ClassVar[bool] = False

    def __post_init__(self) -> None:
        number_within("importance", self.importance, 0, 1)
        integer_at_least("max_experts", self.max_experts, 1)
        number_within("z", self.z, 0, 1)

    @property
    def name(self) -> str:
        """E.g. "des:0.5:2", or "des:0.5:2:0.8" where z is not 1."""
        return layered_name("des", self.importance, self.max_experts, self.z)

    def route(self, scores_TE: ArrayLike, cost: Cost, slot: Slot) -> Routing:
        """Choose; see `Policy.route`."""
        scores = check_inputs(scores_TE, cost, slot)
        threshold = self.z * self.importance**slot.layer
        selection = select_experts(scores, cost.energy_j_TE, threshold, self.max_experts)
        return Routing(selection.mask, selection.energy_j, selection.feasible)


def _smallest(key_TE: NDArray[np.float64], reachable_TE: NDArray[np.bool_], k: int) -> NDArray[np.bool_]:
    """Return a mask of the k smallest keys of each row among the reachable, ties to the lower index."""
    first_TK = np.argsort(np.where(reachable_TE, key_TE, np.inf), axis=1, kind="stable")[:, :k]
    mask_TE = np.zeros(key_TE.shape, dtype=np.bool_)
    np.put_along_axis(mask_TE, first_TK, True, axis=1)
    return mask_TE & reachable_TE


def layered_name(rule: str, importance: float, max_experts: int, z: float) -> str:
    """Return the name of a policy with these parameters; z is left out where it is 1."""
    fields = [rule, shortest(importance), str(max_experts)]
    return ":".join(fields if z == 1 else [*fields, shortest(z)])


def shortest(number: float) -> str:
    """Return a number as it is written in the name of a policy."""
    return repr(float(number)).removesuffix(".0")
