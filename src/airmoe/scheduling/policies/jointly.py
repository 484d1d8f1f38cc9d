"""Policies that decide on the items of all sources together, and on subcarriers.

Shape suffixes: T items, E experts, N nodes.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from airmoe.checks import integer_at_least, number_within
from airmoe.errors import InvalidInputError
from airmoe.links import Links
from airmoe.scheduling.cost import Cost
from airmoe.scheduling.joint.schedule import schedule_layer
from airmoe.scheduling.policies.at_source import Des, layered_name, shortest
from airmoe.scheduling.policy import Routing, Slot, check_inputs


@dataclass(frozen=True)
class Jesa:
    """Joint expert and subcarrier allocation (`schedule_layer`); deeper layers ask for less.

    Chosen scores must sum to at least q = z * importance^layer. Of a cost, only whether an expert can be
    reached matters: what a link costs follows from `slot.links` and the subcarriers chosen.

    Args:
        importance: gamma0, from 0 to 1.
        max_experts: D, the most experts an item may get.
        z: the requirement before the layer's importance, from 0 to 1.
    """

    importance: float = 0.5
    max_experts: int = 2
    z: float = 1.0
    joint: ClassVar[bool] = True

    def __post_init__(self) -> None:
        number_within("importance", self.importance, 0, 1)
        integer_at_least("max_experts", self.max_experts, 1)
        number_within("z", self.z, 0, 1)

    @property
    def name(self) -> str:
        """E.g. "jesa:0.5:2", or "jesa:0.5:2:0.8" where z is not 1."""
        return layered_name("jesa", self.importance, self.max_experts, self.z)

    @property
    def fallback(self) -> Des:
        """The same requirement, met at each source alone."""
        return Des(self.importance, self.max_experts, self.z)

    def route(self, scores_TE: ArrayLike, cost: Cost, slot: Slot) -> Routing:
        """Choose; see `Policy.route`.

        Raises:
            InvalidInputError: as `Policy.route`, or the slot lacks links or payload sizes.
        """
        scores = check_inputs(scores_TE, cost, slot)
        links, bits_T = _radio_of(self.name, slot)
        plan = schedule_layer(
            scores,
            slot.source_T,
            links.gain_NNM,
            links.radio,
            threshold=self.z * self.importance**slot.layer,
            max_experts=self.max_experts,
            placement=_node_NE(slot, links.nodes),
            reachable=cost.reachable_TE,
            token_bits=bits_T,
            bound="none",
        )
        chosen = plan.selection
        return Routing(chosen.mask, chosen.energy_j, chosen.feasible, plan.subcarrier)


@dataclass(frozen=True)
class Homogeneous:
    """JESA with the same requirement z on every layer: what the importance factor is compared with.

    Args:
        z: what chosen scores must sum to, from 0 to 1.
        max_experts: D, the most experts an item may get.
    """

    z: float = 0.5
    max_experts: int = 2
    joint: ClassVar[bool] = True

    def __post_init__(self) -> None:
        number_within("z", self.z, 0, 1)
        integer_at_least("max_experts", self.max_experts, 1)

    @property
    def name(self) -> str:
        """E.g. "homogeneous:0.5:2"."""
        return f"homogeneous:{shortest(self.z)}:{self.max_experts}"

    @property
    def fallback(self) -> Des:
        """The same requirement, met at each source alone."""
        return Des(1.0, self.max_experts, self.z)

    def route(self, scores_TE: ArrayLike, cost: Cost, slot: Slot) -> Routing:
        """Choose; see `Jesa.route`."""
        _radio_of(self.name, slot)
        return Jesa(1.0, self.max_experts, self.z).route(scores_TE, cost, slot)


def _radio_of(name: str, slot: Slot) -> tuple[Links, NDArray[np.float64]]:
    """Return links and payload sizes of a slot, which a joint policy cannot do without."""
    if slot.links is None:
        raise InvalidInputError("slot.links", None, f"links, on which {name} allocates subcarriers")
    if slot.bits_T is None:
        raise InvalidInputError("slot.bits_T", None, f"the bits of each payload, which {name} prices")
    return slot.links, slot.bits_T


def _node_NE(slot: Slot, nodes: int) -> NDArray[np.int64]:
    """Return the node that would serve the items of each node by each expert."""
    node_NE = np.tile(slot.placement.first_E, (nodes, 1))
    node_NE[slot.source_T] = slot.node_TE
    return node_NE
