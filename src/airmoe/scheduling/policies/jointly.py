"""Policies that decide on the items of all sources together, and on subcarriers.

Shape suffixes: T items, E experts, N nodes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from airmoe.checks import integer_at_least
from airmoe.errors import InvalidInputError
from airmoe.links import Links
from airmoe.scheduling.cost import Cost
from airmoe.scheduling.joint.schedule import schedule_layer
from airmoe.scheduling.policies.at_source import Des
from airmoe.scheduling.policies.requirement import Requirement
from airmoe.scheduling.policy import Routing, Slot, check_inputs
from airmoe.spec_text import SpecText


@dataclass(frozen=True)
class Jesa(
    Requirement, SpecText, rule="jesa", needed=2, written=("importance", "max_experts", "z", "restarts")
):
    """Joint expert and subcarrier allocation that meets a `Requirement`: "jesa:0.5:2", "jesa:0.5:2:1:20".

    `schedule_layer` decides. It takes from the cost only which experts can be reached: what a link costs
    follows from `slot.links` and the subcarriers chosen.

    Args:
        importance: see `Requirement`.
        max_experts: see `Requirement`.
        z: see `Requirement`.
        restarts: how many more descents begin at perturbed loads; each takes about as long as a decision.
        seed: of the restarts.

    Examples:
        >>> from airmoe.scheduling import Jesa
        >>> Jesa(importance=0.5, max_experts=2).name
        'jesa:0.5:2'
        >>> Jesa(importance=0.5).fallback  # decides at a source, if no scheduler can be reached
        Des(importance=0.5, max_experts=2, z=1.0)
    """

    restarts: int = 0
    seed: int = 0
    joint: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_restarts(self.restarts, self.seed)

    @property
    def fallback(self) -> Des:
        """The same requirement, met at each source alone."""
        return Des(self.importance, self.max_experts, self.z)

    def route(self, scores_TE: ArrayLike, cost: Cost, slot: Slot) -> Routing:
        """Choose; see `Policy.route`.

        Raises:
            InvalidInputError: as `Policy.route`, or the slot lacks links or payload sizes.
        """
        return _scheduled(self, self, scores_TE, cost, slot)


@dataclass(frozen=True)
class Homogeneous(SpecText, rule="homogeneous", needed=2, written=("z", "max_experts", "restarts")):
    """JESA with the same requirement z on every layer: "homogeneous:0.5:2".

    It is the baseline for JESA's importance factor.

    Args:
        z: what chosen scores must sum to, from 0 to 1.
        max_experts: D, the most experts an item may get.
        restarts: see `Jesa`.
        seed: of the restarts.
    """

    z: float = 0.5
    max_experts: int = 2
    restarts: int = 0
    seed: int = 0
    joint: ClassVar[bool] = True
    requirement: Requirement = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_restarts(self.restarts, self.seed)
        object.__setattr__(self, "requirement", Requirement(1.0, self.max_experts, self.z))

    @property
    def fallback(self) -> Des:
        """The same requirement, met at each source alone."""
        return Des(1.0, self.max_experts, self.z)

    def route(self, scores_TE: ArrayLike, cost: Cost, slot: Slot) -> Routing:
        """Choose; see `Jesa.route`."""
        return _scheduled(self, self.requirement, scores_TE, cost, slot)


def _check_restarts(restarts: int, seed: int) -> None:
    integer_at_least("restarts", restarts, 0)
    integer_at_least("seed", seed, 0)


def _scheduled(
    policy: Jesa | Homogeneous, asked: Requirement, scores_TE: ArrayLike, cost: Cost, slot: Slot
) -> Routing:
    """Return the routing of a policy's schedule that meets a requirement."""
    scores = check_inputs(scores_TE, cost, slot)
    links, bits_T = _radio_of(policy.name, slot)
    plan = schedule_layer(
        scores,
        slot.source_T,
        links.gain_NNM,
        links.radio,
        threshold=asked.threshold(slot.layer),
        max_experts=asked.max_experts,
        placement=slot.node_TE,
        reachable=cost.reachable_TE,
        token_bits=bits_T,
        compute_j_per_token=slot.placement.compute_j_E,
        bound="none",
        restarts=policy.restarts,
        seed=policy.seed,
    )
    chosen = plan.selection
    return Routing(chosen.mask, chosen.energy_j, chosen.feasible, plan.subcarrier)


def _radio_of(name: str, slot: Slot) -> tuple[Links, NDArray[np.float64]]:
    """Return the links and payload sizes of a slot; a joint policy needs both."""
    if slot.links is None:
        raise InvalidInputError("slot.links", None, f"links, on which {name} allocates subcarriers")
    if slot.bits_T is None:
        raise InvalidInputError("slot.bits_T", None, f"the bits of each payload, which {name} prices")
    return slot.links, slot.bits_T
