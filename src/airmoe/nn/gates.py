"""Gates: differentiable scores of every expert for every item.

Shape suffixes: T items, F features, E experts.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn


class GateOutput(NamedTuple):
    """What a gate says: ``scores_TE`` >= 0 with rows that sum to 1, and the ``logits_TE`` behind them."""

    scores_TE: Tensor
    logits_TE: Tensor


class Gate(Protocol):
    """Maps pooled features and, if it wants, the SNR of every item's link to every expert, to scores."""

    def __call__(self, pooled_TF: Tensor, snr_db_TE: Tensor | None = None) -> GateOutput:
        """Return scores and logits, both (T, E); ``snr_db_TE`` is in dB."""
        ...


class LinearGate(nn.Module):
    """softmax(h W + b) of standardised features h, blind to the channel.

    It starts at zero: every expert is equally likely.
    """

    mean_F: Tensor
    std_F: Tensor

    def __init__(self, features: int, experts: int) -> None:
        super().__init__()
        self.register_buffer("mean_F", torch.zeros(features))
        self.register_buffer("std_F", torch.ones(features))
        self.linear = nn.Linear(features, experts)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def standardise(self, mean_F: Tensor, std_F: Tensor) -> None:
        """Set what features are centred on and divided by; until then they are taken as they come."""
        self.mean_F.copy_(mean_F)
        self.std_F.copy_(std_F)

    def forward(self, pooled_TF: Tensor, snr_db_TE: Tensor | None = None) -> GateOutput:
        """Return scores and logits (T, E) of pooled features (T, F); the SNR is not used."""
        logits_TE = self.linear((pooled_TF - self.mean_F) / self.std_F)
        return GateOutput(torch.softmax(logits_TE, dim=-1), logits_TE)


def pool(payload_T: Tensor) -> Tensor:
    """Return (T, F), what a gate sees of a payload.

    A vector stays as it is, a map (T, C, H, W) is averaged over its area, and of a token grid (T, L, F) the
    first, the class token, is taken.
    """
    if payload_T.ndim == 4:
        return payload_T.mean(dim=(2, 3))
    if payload_T.ndim == 3:
        return payload_T[:, 0]
    return payload_T


def topk_mask(scores_TE: Tensor, k: int) -> Tensor:
    """Return bool (T, E), the k best scores of each row, ties to the lower index.

    The same rule as `airmoe.scheduling.TopK`, on the scores' own device, for training.
    """
    best_Tk = torch.argsort(scores_TE, dim=-1, descending=True, stable=True)[:, :k]
    return torch.zeros_like(scores_TE, dtype=torch.bool).scatter_(-1, best_Tk, True)


def balance_loss(scores_TE: Tensor) -> Tensor:
    """Return CV^2, var / mean^2, of the batch mean of the scores; 0 when all experts share alike.

    It acts on the mean over the batch only: each single item may be as decided as it likes.
    """
    importance_E = scores_TE.mean(dim=0)
    return importance_E.var(correction=0) / importance_E.mean().square()
