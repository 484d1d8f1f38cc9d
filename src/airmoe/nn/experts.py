"""Experts: networks that map a payload to class probabilities.

Shape suffixes: P (item, expert) pairs, C classes.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from airmoe.nn.pooling import Pooling, checked_pooling, pool


class ClassifierExpert(nn.Module, ABC):
    """One expert: payloads (P, ...) to class probabilities (P, C).

    Experts answer with probabilities because logits of experts trained apart have no common scale.
    """

    @abstractmethod
    def logits(self, payload_P: Tensor) -> Tensor:
        """Return unnormalised log-probabilities (P, C), for training."""

    def forward(self, payload_P: Tensor) -> Tensor:
        """Return class probabilities (P, C)."""
        return torch.softmax(self.logits(payload_P), dim=-1)


class MlpExpert(ClassifierExpert):
    """One hidden layer on the pooled payload: for any feature extractor.

    Args:
        features: width of the pooled payload.
        classes: C.
        hidden: width of the hidden layer.
        pooling: what a payload is.
        normed: whether a LayerNorm comes first. Features that are never negative add the same large number to
            a hidden value for every item, so without it some never fire; a narrow layer cannot spare them.
    """

    def __init__(
        self,
        features: int,
        classes: int,
        hidden: int = 256,
        pooling: Pooling = "vector",
        *,
        normed: bool = False,
    ) -> None:
        super().__init__()
        self.pooling = checked_pooling(pooling)
        first = [nn.LayerNorm(features)] if normed else []
        self.layers = nn.Sequential(
            *first, nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, classes)
        )

    def logits(self, payload_P: Tensor) -> Tensor:
        """Return unnormalised log-probabilities (P, C) of payloads."""
        return self.layers(pool(payload_P, self.pooling))  # type: ignore[no-any-return]
