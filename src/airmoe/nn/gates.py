"""Gates: differentiable scores of every expert for every item.

Shape suffixes: T items, F features, E experts.
"""

import copy
from collections.abc import Sequence
from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor, nn

from airmoe.errors import InvalidInputError


class GateOutput(NamedTuple):
    """What a gate returns.

    Attributes:
        scores_TE: >= 0, rows sum to 1.
        logits_TE: the scores are their softmax.
        load_TE: the probability that each expert is among the chosen if the gate's noise is drawn again;
            None where there is no noise.
    """

    scores_TE: Tensor
    logits_TE: Tensor
    load_TE: Tensor | None = None


class Gate(Protocol):
    """Maps pooled features and, if it wants, the SNR of every item's link to every expert, to scores.

    A gate that a mesh is to serve also has a bool ``sees_snr``, which says whether it uses the SNR.
    """

    def __call__(self, pooled_TF: Tensor, snr_db_TE: Tensor | None = None) -> GateOutput:
        """Return scores and logits, both (T, E); ``snr_db_TE`` is in dB, None where no link is known."""
        ...


class LinearGate(nn.Module):
    """softmax(h W + b) of standardised features h, blind to the channel.

    It starts at zero: every expert is equally likely.

    Args:
        features: F, width of the pooled features.
        experts: E.

    Examples:
        >>> import torch
        >>> from airmoe.nn import LinearGate
        >>> LinearGate(features=8, experts=4)(torch.randn(2, 8)).scores_TE.tolist()
        [[0.25, 0.25, 0.25, 0.25], [0.25, 0.25, 0.25, 0.25]]
    """

    sees_snr = False
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
        """Set the mean and the standard deviation of features; until then they are 0 and 1."""
        self.mean_F.copy_(mean_F)
        self.std_F.copy_(std_F)

    def forward(self, pooled_TF: Tensor, snr_db_TE: Tensor | None = None) -> GateOutput:
        """Return scores and logits (T, E) of pooled features (T, F); the SNR is not used."""
        logits_TE = self.linear((pooled_TF - self.mean_F) / self.std_F)
        return GateOutput(torch.softmax(logits_TE, dim=-1), logits_TE)

    def of_experts(self, experts: Sequence[int | None]) -> Self:
        """Return the gate of other experts; see `columns_of`."""
        other = copy.deepcopy(self)
        other.linear = columns_of(self.linear, experts)
        return other


def columns_of(linear: nn.Linear, experts: Sequence[int | None]) -> nn.Linear:
    """Return a gate's last layer for other experts, made from its layer for the experts of its training.

    Args:
        linear: hidden to a logit per expert.
        experts: for each expert of the new layer its number in the old one; None for a new expert, which
            begins with the mean of all old ones.

    Raises:
        InvalidInputError: ``experts`` is empty, or has a number that the old layer lacks.
    """
    if not experts:
        raise InvalidInputError("experts", list(experts), "at least one")
    for expert in experts:
        if expert is not None and not 0 <= expert < linear.out_features:
            raise InvalidInputError(
                "expert", expert, f"0 to {linear.out_features - 1}, or None for a new one"
            )
    other = nn.Linear(linear.in_features, len(experts)).to(linear.weight)
    with torch.no_grad():
        for new, old in zip((other.weight, other.bias), (linear.weight, linear.bias), strict=True):
            mean = old.mean(dim=0)
            new.copy_(torch.stack([mean if expert is None else old[expert] for expert in experts]))
    return other


def topk_mask(scores_TE: Tensor, k: int) -> Tensor:
    """Return bool (T, E), the k best scores of each row, ties to the lower index.

    It is the rule of `airmoe.scheduling.TopK`, on the scores' own device, for training.

    Examples:
        >>> import torch
        >>> from airmoe.nn import topk_mask
        >>> topk_mask(torch.tensor([[0.1, 0.6, 0.3], [0.4, 0.4, 0.2]]), k=1).tolist()
        [[False, True, False], [True, False, False]]
    """
    best_Tk = torch.argsort(scores_TE, dim=-1, descending=True, stable=True)[:, :k]
    return torch.zeros_like(scores_TE, dtype=torch.bool).scatter_(-1, best_Tk, True)


def balance_loss(share_TE: Tensor) -> Tensor:
    """Return CV^2, var / mean^2, of the batch mean of scores, weights or load; 0 where experts share alike.

    The loss sees the mean over the batch only, so the scores of a single item may be as sharp as they like.

    Examples:
        >>> import torch
        >>> from airmoe.nn import balance_loss
        >>> balance_loss(torch.tensor([[1.0, 0.0], [0.0, 1.0]])).item()
        0.0
        >>> balance_loss(torch.tensor([[1.0, 0.0], [1.0, 0.0]])).item()
        1.0
    """
    importance_E = share_TE.mean(dim=0)
    return importance_E.var(correction=0) / importance_E.mean().square()
