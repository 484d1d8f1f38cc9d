"""What a policy is given and what it returns.

Shape suffixes: T items, I some of them, E experts, N nodes, R replicas.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from airmoe.checks import indices, integer_at_least, read_only, real_array, refuse_shape, refuse_where
from airmoe.errors import InvalidInputError
from airmoe.links import Links, LinkSnr
from airmoe.scheduling.cost import Cost
from airmoe.scheduling.placement import Placement
from airmoe.showing import OneLine

_LARGEST_NODE = np.iinfo(np.int64).max


@dataclass(frozen=True, eq=False, repr=False)
class Slot(OneLine):
    """What a policy may look at besides scores and costs.

    Args:
        source_T: int64, the node that holds each item.
        placement: the node of each expert, or its nodes; an integer array (E,) will do.
        links: the links as observed, if the policy may see them.
        layer: the MoE layer, counted from 1.
        bits_T: float64, the bits of each item's payload, whatever the radio charges for.
        snr: the SNR of each item's link to each expert, where every item meets a channel of its own; left
            out, that of the links. Policies see what was observed, carriers the truth.
        node_TE: int64, the node that would serve each item by each expert; left out, the expert's first.

    Raises:
        InvalidInputError: an array of another shape, a node that does not exist, a layer below 1.
    """

    source_T: NDArray[np.int64]
    placement: Placement
    links: Links | None
    layer: int
    bits_T: NDArray[np.float64] | None
    snr: LinkSnr | None
    node_TE: NDArray[np.int64]

    def __init__(
        self,
        source_T: ArrayLike,
        placement: Placement | ArrayLike,
        links: Links | None = None,
        layer: int = 1,
        bits_T: ArrayLike | None = None,
        snr: LinkSnr | None = None,
        node_TE: ArrayLike | None = None,
    ) -> None:
        if not isinstance(links, Links | None):
            raise InvalidInputError("links", type(links).__name__, "Links, or None")
        if not isinstance(snr, LinkSnr | None):
            raise InvalidInputError("snr", type(snr).__name__, "a LinkSnr, or None")
        placed = placement if isinstance(placement, Placement) else Placement(placement)
        last_node = _LARGEST_NODE if links is None else links.nodes - 1
        source = indices("source_T", source_T, 0, last_node)
        refuse_shape("source_T", source, (source.size,), "one dimension")
        refuse_where("placement", placed.node_ER, placed.node_ER > last_node, f"a node up to {last_node}")
        integer_at_least("layer", layer, 1)
        shape_TE = len(source), placed.experts
        bits = None if bits_T is None else real_array("bits_T", bits_T)
        if bits is not None:
            refuse_shape("bits_T", bits, source.shape, "(T,)")
            refuse_where("bits_T", bits, ~(np.isfinite(bits) & (bits >= 0)), "a finite number >= 0")
        if snr is not None:
            refuse_shape("snr", snr.true_db_TE, shape_TE, "(T, E)")
        serving = np.broadcast_to(placed.first_E, shape_TE)
        if node_TE is not None:
            serving = indices("node_TE", node_TE, 0, last_node)
            refuse_shape("node_TE", serving, shape_TE, "(T, E)")
            holds_TE = np.any(serving[:, :, np.newaxis] == placed.node_ER, axis=2)
            refuse_where("node_TE", serving, ~holds_TE, "a node that holds the expert")
        for name, value in (
            ("source_T", read_only(source)),
            ("placement", placed),
            ("links", links),
            ("layer", layer),
            ("bits_T", None if bits is None else read_only(bits)),
            ("snr", snr),
            ("node_TE", serving),
        ):
            object.__setattr__(self, name, value)

    def of_items(self, item_I: NDArray[np.int64]) -> Slot:
        """Return the same slot with these items only."""
        return self._with(
            source_T=self.source_T[item_I],
            bits_T=None if self.bits_T is None else self.bits_T[item_I],
            snr=None if self.snr is None else self.snr.of_items(item_I),
            node_TE=self.node_TE[item_I],
        )

    def with_bits(self, bits: float) -> Slot:
        """Return a slot with this many bits in every item's payload; itself where it has them already.

        Raises:
            InvalidInputError: it is not a finite number >= 0.
        """
        if not 0 <= bits < math.inf:
            raise InvalidInputError("bits", bits, "a finite number >= 0")
        if self.bits_T is not None and (self.bits_T == bits).all():
            return self
        return self._with(bits_T=read_only(np.full(len(self.source_T), float(bits))))

    @cached_property
    def of_replicas(self) -> list[Slot]:
        """For each replica's rank the slot in which every expert is served by its replica of that rank.

        Where an expert has fewer nodes, its first one stands in.
        """
        placement, shape_TE = self.placement, self.node_TE.shape
        if placement.replicas == 1:
            return [self]
        node_ER = np.where(placement.exists_ER, placement.node_ER, placement.first_E[:, np.newaxis])
        return [self.served_by(np.broadcast_to(node_E, shape_TE)) for node_E in node_ER.T]

    @cached_property
    def kept(self) -> dict[bytes, Any]:
        """What `airmoe.dispatch.replicas` chose for this slot, which a source asks about again and again."""
        return {}

    def served_by(self, node_TE: NDArray[np.int64]) -> Slot:
        """Return the same slot with these nodes serving; each must hold the expert, which is not checked."""
        return self._with(node_TE=node_TE)

    def _with(self, **changes: object) -> Slot:
        """Return a slot with other arrays that need no check: a query has no time to check them again."""
        slot = object.__new__(Slot)
        slot.__dict__.update(self.__dict__)
        for name in ("observed_snr_db_TE", "of_replicas", "kept"):
            slot.__dict__.pop(name, None)
        slot.__dict__.update(changes)
        return slot

    @property
    def at_home_TE(self) -> NDArray[np.bool_]:
        """True where the expert would serve the item at the item's own node: nothing is transferred."""
        return np.asarray(self.source_T[:, np.newaxis] == self.node_TE)

    @cached_property
    def observed_snr_db_TE(self) -> NDArray[np.float64] | None:
        """The SNR of each item's link to each expert, dB, as observed; None where the slot holds none."""
        if self.snr is not None:
            return self.snr.observed_db_TE
        return None if self.links is None else read_only(self.links.snr_db(self.source_T, self.node_TE))


@dataclass(frozen=True, eq=False, repr=False)
class Routing(OneLine):
    """Which experts get each item, and what that costs.

    Attributes:
        mask_TE: bool, True where the expert gets the item.
        energy_j_T: float64, J, the sum of what the chosen experts cost; 0 where none was chosen, inf where no
            expert could be reached.
        feasible_T: bool, False where the policy's own rule could not be met (an empty row is never feasible).
        subcarrier_NN: int64, the subcarrier of each link (-1 none), set by joint policies only.
    """

    mask_TE: NDArray[np.bool_]
    energy_j_T: NDArray[np.float64]
    feasible_T: NDArray[np.bool_]
    subcarrier_NN: NDArray[np.int64] | None = None


class Policy(Protocol):
    """A rule that decides which experts get each item. It never weighs their outputs."""

    @property
    def name(self) -> str:
        """The policy as `make_policy` reads it, e.g. "topk:2"."""

    @property
    def joint(self) -> bool:
        """True if it decides for all sources at once and allocates subcarriers too."""

    def route(self, scores_TE: ArrayLike, cost: Cost, slot: Slot) -> Routing:
        """Choose experts.

        Args:
            scores_TE: gate scores, finite, >= 0.
            cost: what it takes to have an expert answer an item; one that is unreachable is never chosen.
            slot: where items and experts are, and what else may be looked at.

        Raises:
            InvalidInputError: an array of the wrong shape or with a value that is not allowed.
        """


@runtime_checkable
class JointPolicy(Policy, Protocol):
    """A policy that decides for the items of all sources in a slot, and on subcarriers, from `slot.links`.

    It reads from a cost only which experts can be reached. What a link costs follows from the subcarriers
    that it allocates. `route` may raise `airmoe.errors.NotScheduledError`.
    """

    @property
    def fallback(self) -> Policy:
        """The policy that decides at a source alone, when an expert is lost or no scheduler is reached."""


def as_joint(policy: Policy) -> JointPolicy | None:
    """Return the policy if it is joint, else None.

    Raises:
        InvalidInputError: it is joint and has no fallback, or one that is joint itself.
    """
    if not policy.joint:
        return None
    if isinstance(policy, JointPolicy) and not policy.fallback.joint:
        return policy
    expected = "a joint policy with a `fallback`, not joint itself, that decides where no scheduler does"
    raise InvalidInputError("policy", policy.name, expected)


def check_scores(name: str, scores: ArrayLike) -> NDArray[np.float64]:
    """Return gate scores (T, E) as float64; refuse another shape, no expert, NaN, inf and what is < 0."""
    scores_TE = real_array(name, scores)
    items = scores_TE.shape[0] if scores_TE.ndim else 0
    experts = max(scores_TE.shape[-1], 1) if scores_TE.ndim else 1
    refuse_shape(name, scores_TE, (items, experts), "(T, E) with E >= 1, for example")
    refuse_where(name, scores_TE, ~(np.isfinite(scores_TE) & (scores_TE >= 0)), "finite and >= 0")
    return scores_TE


def check_inputs(scores_TE: ArrayLike, cost: Cost, slot: Slot) -> NDArray[np.float64]:
    """Return scores as float64 (T, E) after the checks that `Policy.route` promises."""
    scores = check_scores("scores_TE", scores_TE)
    if not isinstance(cost, Cost):
        raise InvalidInputError("cost", type(cost).__name__, "a Cost of energy_j_TE and airtime_s_TE")
    items, experts = scores.shape
    refuse_shape("cost.energy_j_TE", cost.energy_j_TE, (items, experts), "(T, E)")
    refuse_shape("slot.source_T", slot.source_T, (items,), "(T,)")
    if slot.placement.experts != experts:
        raise InvalidInputError("experts of slot.placement", slot.placement.experts, f"{experts}, as scored")
    return scores


def routing_of(mask_TE: NDArray[np.bool_], cost: Cost) -> Routing:
    """Return the routing of a rule that is met wherever any expert was chosen.

    Args:
        mask_TE: True where the expert gets the item.
        cost: what the policy was given.

    Examples:
        >>> import numpy as np
        >>> from airmoe.scheduling import Cost, routing_of
        >>> routing_of(np.array([[True, False]]), Cost([[0.0, 3e-5]])).feasible_T.tolist()
        [True]
    """
    energy_j_T = np.where(mask_TE, cost.energy_j_TE, 0.0).sum(axis=1)
    energy_j_T[~np.any(cost.reachable_TE, axis=1)] = np.inf
    return Routing(mask_TE, energy_j_T, np.any(mask_TE, axis=1))
