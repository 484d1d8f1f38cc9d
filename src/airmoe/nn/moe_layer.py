"""The MoE layer: a gate scores, a policy decides, a carrier carries, the outputs are mixed.

Shape suffixes: T items, E experts, F features, C outputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from airmoe.checks import integer_at_least
from airmoe.dispatch import Carrier, Delivery, Dispatched, Transfer, dispatch, nearest
from airmoe.dispatch.carrier import refuse_unasked
from airmoe.errors import InvalidInputError, NoExpertReachedError, telling
from airmoe.links import Links, LinkSnr
from airmoe.nn.carriers import LocalCarrier
from airmoe.nn.combine import Normalise, combine, mixing_weights
from airmoe.nn.gates import topk_mask
from airmoe.nn.personal_gates import PersonalGates
from airmoe.nn.pooling import Pooling, checked_pooling, pool
from airmoe.scheduling import Placement, Policy, Slot, TopK
from airmoe.scheduling.parsing import as_policy
from airmoe.showing import OneLine


@dataclass(frozen=True, repr=False)
class MoeOutput(OneLine):
    """What a mixture returns.

    Attributes:
        y_TC: the mixed outputs.
        scores_TE: of the gate.
        load_TE: of a gate that is noisy while training; see `airmoe.nn.gates.GateOutput`.
        weights_TE: of each output in the mixture, 0 where there was none.
        dispatched: what became of the batch; None while training.
        delivery: the output of each expert by itself, while training; else None.
    """

    y_TC: Tensor
    scores_TE: Tensor
    load_TE: Tensor | None
    weights_TE: Tensor
    dispatched: Dispatched[Tensor] | None
    delivery: Delivery[Tensor] | None = None


class MoeLayer(nn.Module):
    """A gate and experts, with a policy that decides and a carrier that transports.

    While training, top-k chooses the experts, on the device. In evaluation the policy decides. The weights of
    what arrived sum to 1, except while training with one expert per item: there the weight is the expert's
    score as it is, so that the gate learns.

    Args:
        gate: pooled payload (T, F), SNR (T, E) in dB to `airmoe.nn.gates.GateOutput`; or
            `airmoe.nn.PersonalGates`, one for each node where items rest.
        experts: each maps payload rows to outputs (P, C).
        pooling: what a payload is, which decides what the gate sees of it; see `airmoe.nn.pooling.Pooling`.
        policy: who decides where a call does not say, or its text, e.g. "topk:2"; default top-1.
        carrier: who transports where a call does not say; default all experts in this process.
        placement: the node, or nodes, of each expert; default expert e on node e.
        source: the node where items rest where a call does not say.
        layer: its number, counted from 1.
        training_k: experts per item while training, those that the gate likes best.
        explored: further experts per item while training, drawn at random from the others.

    Raises:
        InvalidInputError: a number out of range, or a placement that does not fit the experts.
    """

    def __init__(
        self,
        gate: nn.Module,
        experts: Sequence[nn.Module],
        *,
        pooling: Pooling = "vector",
        policy: Policy | str | None = None,
        carrier: Carrier[Tensor, Tensor] | None = None,
        placement: Placement | ArrayLike | None = None,
        source: int = 0,
        layer: int = 1,
        training_k: int = 1,
        explored: int = 0,
    ) -> None:
        super().__init__()
        if integer_at_least("training_k", training_k, 1) > len(experts):
            raise InvalidInputError("training_k", training_k, f"1 to {len(experts)}, the number of experts")
        if integer_at_least("explored", explored, 0) > len(experts) - training_k:
            expected = f"0 to {len(experts) - training_k}, the experts beside training_k = {training_k}"
            raise InvalidInputError("explored", explored, expected)
        placed = np.arange(len(experts)) if placement is None else placement
        self.placement = placed if isinstance(placed, Placement) else Placement(placed)
        if self.placement.experts != len(experts):
            expected = f"a node for each of {len(experts)} experts"
            raise InvalidInputError("experts of placement", self.placement.experts, expected)
        self.gate, self.experts = gate, nn.ModuleList(experts)
        self.pooling = checked_pooling(pooling)
        self.policy = as_policy(policy or TopK(1))
        self.carrier: Carrier[Tensor, Tensor] = carrier or LocalCarrier()
        self.source = integer_at_least("source", source, 0)
        self.number = integer_at_least("layer", layer, 1)
        self.training_k, self.explored = training_k, explored
        self._standing: Slot | None = None

    def __repr__(self) -> str:
        kinds = sorted({type(expert).__name__ for expert in self.experts})
        gate, experts = type(self.gate).__name__, f"{len(self.experts)} experts of {', '.join(kinds)}"
        return f"MoeLayer({gate}, {experts}, {self.policy!r})"

    def forward(
        self,
        payload_T: Tensor,
        source_T: NDArray[np.int64] | None = None,
        *,
        snr: LinkSnr | None = None,
        policy: Policy | str | None = None,
        carrier: Carrier[Tensor, Tensor] | None = None,
        deadline_s: float = math.inf,
    ) -> MoeOutput:
        """Return the mixture's answers. The gate and the policy see the links as observed.

        Args:
            payload_T: what experts take, first axis T.
            source_T: int64, the node where each item rests; default the layer's ``source`` for all.
            snr: the SNR of each item's link to each expert; default that of the carrier's links.
            policy: who decides; default the layer's.
            carrier: who transports; default the layer's.
            deadline_s: seconds for everything, in evaluation.

        Raises:
            InvalidInputError: no items, or ``source_T`` or ``snr`` does not fit.
            NoExpertReachedError: an item got no answer.
        """
        if not len(payload_T):
            raise InvalidInputError("payload_T", tuple(payload_T.shape), "at least one item")
        policy = self.policy if policy is None else as_policy(policy)
        carrier = self.carrier if carrier is None else carrier
        source_T = np.full(len(payload_T), self.source) if source_T is None else source_T
        if np.shape(source_T) != (len(payload_T),):
            raise InvalidInputError("shape of source_T", np.shape(source_T), f"(T,) = ({len(payload_T)},)")
        links = None if carrier.links is None else carrier.links.observed
        slot = self._slot(source_T, links, snr, carrier.payload_bits(payload_T))
        if getattr(self.gate, "sees_snr", True):
            slot = nearest(payload_T, carrier, slot)
        scores_TE, load_TE = self._scores(payload_T, slot)
        normalise: Normalise = "chosen"
        dispatched: Dispatched[Tensor] | None = None
        delivery: Delivery[Tensor] | None = None
        deliveries: list[Delivery[Tensor]]
        if self.training:
            delivery, arrived_TE = self._carry_asked(payload_T, scores_TE, slot, carrier)
            deliveries = [delivery]
            normalise = "none" if self.training_k + self.explored == 1 else "chosen"
        else:
            scores = scores_TE.detach().double().cpu().numpy()
            dispatched = dispatch(
                payload_T, scores, policy, carrier, slot, self.experts, deadline_s=deadline_s
            )
            deliveries = dispatched.deliveries
            arrived_TE = torch.from_numpy(dispatched.arrived_TE).to(scores_TE.device)

        weights_TE = mixing_weights(scores_TE, arrived_TE, normalise)
        # Under autocast outputs may be of another type than scores.
        y_TC = sum(
            combine(weights_TE, d.item_P, d.expert_P, d.output_P.to(weights_TE.dtype)) for d in deliveries
        )
        assert isinstance(y_TC, Tensor)
        return MoeOutput(y_TC, scores_TE, load_TE, weights_TE, dispatched, delivery)

    def _slot(
        self, source_T: NDArray[np.int64], links: Links | None, snr: LinkSnr | None, bits: float
    ) -> Slot:
        """Return what a policy sees of a batch; one object as long as nothing about it changes."""
        standing = self._standing
        if (
            standing is None
            or (standing.links, standing.placement, standing.snr) != (links, self.placement, snr)
            or not np.array_equal(standing.source_T, source_T)
        ):
            standing = Slot(np.array(source_T), self.placement, links, self.number, snr=snr)
        self._standing = standing = standing.with_bits(bits)
        return standing

    def _carry_asked(
        self, payload_T: Tensor, scores_TE: Tensor, slot: Slot, carrier: Carrier[Tensor, Tensor]
    ) -> tuple[Delivery[Tensor], Tensor]:
        """Have the experts serve that are asked in training; return outputs, and bool (T, E) of arrivals."""
        chosen_TE = topk_mask(scores_TE, self.training_k)
        if self.explored:
            drawn_TE = torch.rand_like(scores_TE).masked_fill(chosen_TE, -1.0)
            chosen_TE = chosen_TE | topk_mask(drawn_TE, self.explored)
        wanted_TE = chosen_TE.cpu().numpy()
        expert_P, item_P = np.nonzero(wanted_TE.T)
        node_P = slot.node_TE[item_P, expert_P]
        with telling(f"carrier {type(carrier).__name__}, (T, E) = {wanted_TE.shape}"):
            delivery = carrier.carry(
                Transfer(payload_T, item_P, expert_P, node_P, slot, self.experts, math.inf)
            )
            if len(delivery.item_P) == len(item_P):
                return delivery, chosen_TE
            refuse_unasked(delivery, wanted_TE)
            arrived_TE = np.zeros_like(wanted_TE)
            arrived_TE[delivery.item_P, delivery.expert_P] = True
            for item in np.flatnonzero(~arrived_TE.any(axis=1)):
                raise NoExpertReachedError(f"item {item}: no expert answered while training")
        return delivery, torch.from_numpy(arrived_TE).to(scores_TE.device)

    def _scores(self, payload_T: Tensor, slot: Slot) -> tuple[Tensor, Tensor | None]:
        snr_db_TE, sees_snr = None, getattr(self.gate, "sees_snr", True)
        if sees_snr and (observed_TE := slot.observed_snr_db_TE) is not None:
            snr_db_TE = torch.tensor(observed_TE).to(payload_T)
        pooled_TF, shape_TE = pool(payload_T, self.pooling), (len(payload_T), len(self.experts))
        with telling(f"gate {type(self.gate).__name__}, (T, E) = {shape_TE}"):
            personal = {"source_T": slot.source_T} if isinstance(self.gate, PersonalGates) else {}
            scores_TE, _, load_TE = self.gate(pooled_TF, snr_db_TE, **personal)
            if scores_TE.shape != shape_TE:
                raise InvalidInputError("shape of scores", tuple(scores_TE.shape), f"(T, E) = {shape_TE}")
        return scores_TE, load_TE
