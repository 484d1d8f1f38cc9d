"""The MoE layer: a gate scores, a policy decides, a carrier carries, the outputs are mixed.

Shape suffixes: T items, E experts, F features, C outputs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from airmoe.errors import InvalidInputError
from airmoe.nn.carriers import LocalCarrier
from airmoe.nn.combine import Normalise, combine, mixing_weights
from airmoe.nn.gates import pool, topk_mask
from airmoe.scheduling import Policy, Slot, TopK
from airmoe.scheduling.dispatch import Carrier, Delivery, Dispatched, dispatch


@dataclass(frozen=True)
class MoeOutput:
    """The mixed outputs, the gate's scores, and (not while training) what the transfers did."""

    y_TC: Tensor
    scores_TE: Tensor
    dispatched: Dispatched[Tensor] | None


class MixtureOfExperts(nn.Module):
    """A feature extractor, a gate and experts, with a policy that decides and a carrier that transports.

    Policy and carrier are plain attributes: set others at any time. While training, experts are chosen by
    top-k on the device and outputs are mixed with the scores as they are, so that the gate learns even at
    k = 1; in evaluation the policy decides and the weights of what arrived sum to 1.

    Args:
        extractor: inputs to payload, first axis T.
        gate: pooled payload (T, F), SNR (T, E) in dB to `airmoe.nn.gates.GateOutput`.
        experts: each maps payload rows to outputs (P, C).
        policy: default top-1.
        carrier: default all experts in this process.
        placement_E: the node of each expert; default expert e on node e.
        training_k: experts per item while training.

    Raises:
        InvalidInputError: ``training_k`` or the length of ``placement_E`` does not fit the experts.
    """

    def __init__(
        self,
        extractor: nn.Module,
        gate: nn.Module,
        experts: Sequence[nn.Module],
        *,
        policy: Policy | None = None,
        carrier: Carrier[Tensor, Tensor] | None = None,
        placement_E: NDArray[np.int64] | None = None,
        training_k: int = 1,
    ) -> None:
        super().__init__()
        if not 1 <= training_k <= len(experts):
            raise InvalidInputError("training_k", training_k, f"1 to {len(experts)}, the number of experts")
        self.extractor, self.gate, self.experts = extractor, gate, nn.ModuleList(experts)
        self.policy: Policy = policy or TopK(1)
        self.carrier: Carrier[Tensor, Tensor] = carrier or LocalCarrier()
        self.placement_E = np.arange(len(experts)) if placement_E is None else placement_E
        if self.placement_E.shape != (len(experts),):
            raise InvalidInputError(
                "placement_E", self.placement_E.shape, f"a node for each of {len(experts)} experts"
            )
        self.training_k = training_k

    def forward(
        self,
        inputs_T: Tensor,
        source_T: NDArray[np.int64] | None = None,
    ) -> MoeOutput:
        """Return the mixture's answers. The gate and the policy see the carrier's links as observed.

        Args:
            inputs_T: what the extractor takes, first axis T.
            source_T: int64, the node where each item rests; default node 0.

        Raises:
            InvalidInputError: no items, or ``source_T`` does not fit.
            NoExpertReachedError: in evaluation, an item got no answer.
        """
        if not len(inputs_T):
            raise InvalidInputError("inputs_T", tuple(inputs_T.shape), "at least one item")
        source_T = np.zeros(len(inputs_T), dtype=np.int64) if source_T is None else source_T
        links = self.carrier.links
        slot = Slot(source_T, self.placement_E, links.observed if links else None)
        payload_T = self.extractor(inputs_T)
        snr_db_TE = None
        if slot.links is not None:
            snr_db_TE = torch.from_numpy(slot.links.snr_db(source_T, self.placement_E)).to(payload_T)
        scores_TE, _ = self.gate(pool(payload_T), snr_db_TE)

        normalise: Normalise
        dispatched: Dispatched[Tensor] | None
        deliveries: list[Delivery[Tensor]]
        if self.training:
            arrived_TE = topk_mask(scores_TE, self.training_k)
            expert_P, item_P = np.nonzero(arrived_TE.cpu().numpy().T)
            deliveries = [self.carrier.carry(payload_T, item_P, expert_P, slot, self.experts, np.inf)]
            dispatched, normalise = None, "none"
        else:
            scores = scores_TE.detach().double().cpu().numpy()
            dispatched = dispatch(payload_T, scores, self.policy, self.carrier, slot, self.experts)
            deliveries, normalise = dispatched.deliveries, "chosen"
            arrived_TE = torch.from_numpy(dispatched.arrived_TE).to(scores_TE.device)

        weights_TE = mixing_weights(scores_TE, arrived_TE, normalise)
        y_TC = sum(combine(weights_TE, d.item_P, d.expert_P, d.output_P) for d in deliveries)
        assert isinstance(y_TC, Tensor)
        return MoeOutput(y_TC, scores_TE, dispatched)
