"""The MoE layer: a gate scores, a policy decides, a carrier carries, the outputs are mixed.

Shape suffixes: T items, E experts, F features, C outputs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from airmoe.checks import integer_at_least
from airmoe.dispatch.loop import Carrier, Delivery, Dispatched, dispatch
from airmoe.errors import InvalidInputError
from airmoe.links import LinkSnr
from airmoe.nn.carriers import LocalCarrier
from airmoe.nn.combine import Normalise, combine, mixing_weights
from airmoe.nn.gates import pool, topk_mask
from airmoe.scheduling import Policy, Slot, TopK


@dataclass(frozen=True)
class MoeOutput:
    """What a mixture answers.

    Attributes:
        y_TC: the mixed outputs.
        scores_TE: of the gate.
        load_TE: of a gate that is noisy while training; see `airmoe.nn.gates.GateOutput`.
        weights_TE: of each output in the mixture, 0 where there was none.
        dispatched: what the transfers did; None while training.
    """

    y_TC: Tensor
    scores_TE: Tensor
    load_TE: Tensor | None
    weights_TE: Tensor
    dispatched: Dispatched[Tensor] | None


class MixtureOfExperts(nn.Module):
    """A feature extractor, a gate and experts, with a policy that decides and a carrier that transports.

    Policy and carrier are plain attributes: set others at any time. While training, experts are chosen by
    top-k on the device, and with one expert per item its output is weighed with its score as it is, so that
    the gate learns even then; otherwise the weights of what arrived sum to 1. In evaluation the policy
    decides.

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
        if integer_at_least("training_k", training_k, 1) > len(experts):
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
        snr: LinkSnr | None = None,
    ) -> MoeOutput:
        """Return the mixture's answers. The gate and the policy see the links as observed.

        Args:
            inputs_T: what the extractor takes, first axis T.
            source_T: int64, the node where each item rests; default the one after the experts' nodes, a
                server without an expert, if ``snr`` is given, and node 0 if not.
            snr: the SNR of each item's link to each expert; default that of the carrier's links.

        Raises:
            InvalidInputError: no items, or ``source_T`` or ``snr`` does not fit.
            NoExpertReachedError: in evaluation, an item got no answer.
        """
        if not len(inputs_T):
            raise InvalidInputError("inputs_T", tuple(inputs_T.shape), "at least one item")
        return self.answer(self.extractor(inputs_T), source_T, snr)

    def answer(
        self, payload_T: Tensor, source_T: NDArray[np.int64] | None = None, snr: LinkSnr | None = None
    ) -> MoeOutput:
        """Return the mixture's answers to payloads that the extractor made; see `forward`."""
        if source_T is None:
            source_T = np.full(len(payload_T), 0 if snr is None else self.placement_E.max() + 1, np.int64)
        links = self.carrier.links
        slot = Slot(source_T, self.placement_E, links.observed if links else None, snr=snr)
        snr_db_TE = None
        if (observed_TE := slot.observed_snr_db_TE) is not None:
            snr_db_TE = torch.from_numpy(observed_TE).to(payload_T)
        scores_TE, _, load_TE = self.gate(pool(payload_T), snr_db_TE)
        if scores_TE.shape[1] != len(self.experts):
            expected = f"{len(self.experts)}, one for each expert"
            raise InvalidInputError("scores of the gate", scores_TE.shape[1], expected)

        normalise: Normalise
        dispatched: Dispatched[Tensor] | None
        deliveries: list[Delivery[Tensor]]
        if self.training:
            arrived_TE = topk_mask(scores_TE, self.training_k)
            expert_P, item_P = np.nonzero(arrived_TE.cpu().numpy().T)
            deliveries = [self.carrier.carry(payload_T, item_P, expert_P, slot, self.experts, np.inf)]
            dispatched, normalise = None, "none" if self.training_k == 1 else "chosen"
        else:
            scores = scores_TE.detach().double().cpu().numpy()
            dispatched = dispatch(
                payload_T, scores, self.policy, self.carrier, slot, self.experts, deadline_s=math.inf
            )
            deliveries, normalise = dispatched.deliveries, "chosen"
            arrived_TE = torch.from_numpy(dispatched.arrived_TE).to(scores_TE.device)

        weights_TE = mixing_weights(scores_TE, arrived_TE, normalise)
        # Under autocast outputs may be of another type than scores.
        y_TC = sum(
            combine(weights_TE, d.item_P, d.expert_P, d.output_P.to(weights_TE.dtype)) for d in deliveries
        )
        assert isinstance(y_TC, Tensor)
        return MoeOutput(y_TC, scores_TE, load_TE, weights_TE, dispatched)
