"""What a layer answered in one process: the answers, who gave them, and what that cost.

Shape suffixes: T items, E experts.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from airmoe.dispatch import Carrier
from airmoe.links import LinkSnr
from airmoe.nn import MoeLayer
from airmoe.scheduling import Policy
from airmoe.showing import OneLine

BATCH = 500
"""Items that are asked about at once, where every item meets links of its own."""

HELD_OUT_SNR, HELD_OUT_NOISE = "held-out snr", "held-out noise"
"""Purposes of the random streams by which a channel-aware run is measured, in training and afterwards."""


@dataclass(frozen=True, eq=False, repr=False)
class Asked(OneLine):
    """The answers about items.

    Attributes:
        answer_T: int64, the class answered.
        requested_TE: bool, the experts asked, whether they answered or not.
        arrived_TE: bool, the experts that answered.
        weights_TE: float32, the weight of each expert in the answer.
        energy_j_T: float64, joules.
        airtime_s_T: float64, seconds on the air.
        degraded_T: bool, True where a wanted expert did not answer.
        chose_none_T: bool, True where the policy chose no expert.
    """

    answer_T: NDArray[np.int64]
    requested_TE: NDArray[np.bool_]
    arrived_TE: NDArray[np.bool_]
    weights_TE: NDArray[np.float32]
    energy_j_T: NDArray[np.float64]
    airtime_s_T: NDArray[np.float64]
    degraded_T: NDArray[np.bool_]
    chose_none_T: NDArray[np.bool_]


def ask_layer(
    layer: MoeLayer,
    payload_T: Tensor,
    source_T: NDArray[np.int64] | None = None,
    *,
    policy: Policy,
    carrier: Carrier[Tensor, Tensor],
    snr: LinkSnr | None = None,
) -> Asked:
    """Ask a layer in evaluation mode about payloads, without gradients; see `airmoe.nn.MoeLayer`."""
    with torch.no_grad():
        output = layer(payload_T, source_T, snr=snr, policy=policy, carrier=carrier)
    dispatched = output.dispatched
    return Asked(
        output.y_TC.argmax(dim=1).cpu().numpy(),
        dispatched.requested_TE,
        dispatched.arrived_TE,
        output.weights_TE.cpu().numpy(),
        dispatched.energy_j_T,
        dispatched.airtime_s_T,
        dispatched.degraded_T,
        dispatched.chose_none_T,
    )


def ask_in_batches(
    layer: MoeLayer,
    payload_batches: Iterable[Tensor],
    *,
    policy: Policy,
    carrier: Carrier[Tensor, Tensor],
    snr: LinkSnr | None = None,
) -> Asked:
    """Ask a layer about batches of payloads, one after the other; ``snr`` is that of all items."""
    parts, first = list[Asked](), 0
    for payload_B in payload_batches:
        of_batch = None if snr is None else snr.of_items(np.arange(first, first + len(payload_B)))
        parts.append(ask_layer(layer, payload_B, policy=policy, carrier=carrier, snr=of_batch))
        first += len(payload_B)
    return joined(parts)


def joined(parts: Sequence[Asked]) -> Asked:
    """Return the answers of several batches as one, in their order."""
    return Asked(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Asked)))
