"""What a policy is given and what it returns.

Shape suffixes: T items, E experts, N nodes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from airmoe.checks import indices, integer_at_least, real_array, refuse_shape, refuse_where
from airmoe.errors import InvalidInputError
from airmoe.links import Links, LinkSnr

MOST_J = 1e250
"""Larger energies would overflow where they are added up."""

_LARGEST_NODE = np.iinfo(np.int64).max


@dataclass(frozen=True, eq=False)
class Slot:
    """What a policy may look at besides scores and prices.

    Args:
        source_T: int64, the node that holds each item.
        placement_E: int64, the node of each expert.
        links: the links as observed, if the policy may see them.
        layer: the MoE layer, counted from 1.
        bits_T: float64, the bits of each item's payload, if it travels over links.
        snr: the SNR of each item's link to each expert, where every item meets a channel of its own; left
            out, that of the links. Policies look at what was observed, carriers at the truth.

    Raises:
        InvalidInputError: an array that is not one-dimensional, a node that does not exist, a layer below 1.
    """

    source_T: NDArray[np.int64]
    placement_E: NDArray[np.int64]
    links: Links | None = None
    layer: int = 1
    bits_T: NDArray[np.float64] | None = None
    snr: LinkSnr | None = None

    def __post_init__(self) -> None:
        last_node = _LARGEST_NODE if self.links is None else self.links.nodes - 1
        for name in ("source_T", "placement_E"):
            node = indices(name, getattr(self, name), 0, last_node)
            refuse_shape(name, node, (node.size,), "one dimension")
            object.__setattr__(self, name, node)
        integer_at_least("layer", self.layer, 1)
        if self.bits_T is not None:
            refuse_shape("bits_T", self.bits_T, self.source_T.shape, "(T,)")
        if self.snr is not None:
            shape_TE = len(self.source_T), len(self.placement_E)
            refuse_shape("snr", self.snr.true_db_TE, shape_TE, "(T, E)")

    def of_items(self, item_I: NDArray[np.int64]) -> Slot:
        """Return the same slot with these items only."""
        bits_I = None if self.bits_T is None else self.bits_T[item_I]
        snr = None if self.snr is None else self.snr.of_items(item_I)
        return replace(self, source_T=self.source_T[item_I], bits_T=bits_I, snr=snr)

    @property
    def observed_snr_db_TE(self) -> NDArray[np.float64] | None:
        """The SNR of each item's link to each expert, in dB, as gates and policies see it, if they may."""
        if self.snr is not None:
            return self.snr.observed_db_TE
        return None if self.links is None else self.links.snr_db(self.source_T, self.placement_E)


@dataclass(frozen=True, eq=False)
class Routing:
    """Which experts get each item, and what that costs.

    Attributes:
        mask_TE: bool, True where the expert gets the item.
        energy_j_T: float64, J, the sum of the chosen experts' prices; 0 where none was chosen, inf where no
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

    def route(self, scores_TE: ArrayLike, price_j_TE: ArrayLike, slot: Slot) -> Routing:
        """Choose experts.

        Args:
            scores_TE: gate scores, finite, >= 0.
            price_j_TE: J to have an expert answer an item, >= 0; inf is unreachable and never chosen.
            slot: where items and experts are, and what else may be looked at.

        Raises:
            InvalidInputError: an array of the wrong shape or with a value that is not allowed.
        """


@runtime_checkable
class JointPolicy(Policy, Protocol):
    """A policy that decides for the items of all sources in a slot, and on subcarriers, from `slot.links`.

    Of a price only matters whether it is finite. `route` may raise `airmoe.errors.NotScheduledError`.
    """

    @property
    def fallback(self) -> Policy:
        """Who decides at a source alone, when an expert is lost or no scheduler can be reached."""


def as_joint(policy: Policy) -> JointPolicy | None:
    """Return a policy that is joint, None for another.

    Raises:
        InvalidInputError: it is joint and does not say who decides where no scheduler does.
    """
    if not policy.joint:
        return None
    if isinstance(policy, JointPolicy) and not policy.fallback.joint:
        return policy
    expected = "a joint policy with a `fallback`, not joint itself, that decides where no scheduler does"
    raise InvalidInputError("policy", policy.name, expected)


def check_scores(name: str, scores: ArrayLike) -> NDArray[np.float64]:
    """Return gate scores (T, E) as float64; refuse another shape, no expert, and what is not >= 0."""
    scores_TE = real_array(name, scores)
    items = scores_TE.shape[0] if scores_TE.ndim else 0
    experts = max(scores_TE.shape[-1], 1) if scores_TE.ndim else 1
    refuse_shape(name, scores_TE, (items, experts), "(T, E) with E >= 1, for example")
    refuse_where(name, scores_TE, ~(np.isfinite(scores_TE) & (scores_TE >= 0)), "finite and >= 0")
    return scores_TE


def check_prices(name: str, prices: ArrayLike, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Return prices as float64 of `shape` (T, E); refuse another shape and what is not >= 0 or inf."""
    price_TE = real_array(name, prices)
    refuse_shape(name, price_TE, shape, "(T, E)")
    allowed_TE = (price_TE >= 0) & (price_TE <= MOST_J) | (price_TE == np.inf)
    refuse_where(name, price_TE, ~allowed_TE, f"0 to {MOST_J:g} J, or inf for an unreachable expert")
    return price_TE


def check_inputs(
    scores_TE: ArrayLike, price_j_TE: ArrayLike, slot: Slot
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return scores and prices as float64 (T, E) after the checks that `Policy.route` promises."""
    scores = check_scores("scores_TE", scores_TE)
    items, experts = scores.shape
    price = check_prices("price_j_TE", price_j_TE, (items, experts))
    refuse_shape("slot.source_T", slot.source_T, (items,), "(T,)")
    refuse_shape("slot.placement_E", slot.placement_E, (experts,), "(E,)")
    return scores, price


def routing_of(mask_TE: NDArray[np.bool_], price_j_TE: NDArray[np.float64]) -> Routing:
    """Return the routing of a rule that is met wherever any expert was chosen."""
    energy_j_T = np.where(mask_TE, price_j_TE, 0.0).sum(axis=1)
    energy_j_T[~np.isfinite(price_j_TE).any(axis=1)] = np.inf
    return Routing(mask_TE, energy_j_T, np.any(mask_TE, axis=1))
