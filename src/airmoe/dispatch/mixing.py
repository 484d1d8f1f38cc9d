"""Mixing of outputs, as ``airmoe.nn.combine`` does it, without PyTorch.

Shape suffixes: T items, E experts, C classes, P (item, expert) pairs.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from airmoe.dispatch.carrier import Delivery


def mixing_weights(scores_TE: NDArray[np.float64], arrived_TE: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return (T, E): scores of what arrived, made to sum to 1 over each row; zero elsewhere.

    Shares are equal where all scores that arrived are zero. ``airmoe.nn.mixing_weights`` does the same with
    ``normalise="chosen"``.
    """
    weights_TE = np.where(arrived_TE, scores_TE, 0.0)
    weights_TE = np.where(weights_TE.any(axis=1, keepdims=True), weights_TE, arrived_TE)
    return np.asarray(weights_TE / weights_TE.sum(axis=1, keepdims=True))


def mix(
    weights_TE: NDArray[np.float64], deliveries: Sequence[Delivery[NDArray[np.float32]]]
) -> NDArray[np.float32]:
    """Return (T, ...): for each item the sum of its outputs times their weights."""
    item_P, expert_P, output_P = (
        parts[0] if len(parts) == 1 else np.concatenate(parts)
        for parts in (
            [delivery.item_P for delivery in deliveries],
            [delivery.expert_P for delivery in deliveries],
            [delivery.output_P for delivery in deliveries],
        )
    )
    by_item = np.argsort(item_P, kind="stable")
    weight_P = weights_TE[item_P, expert_P].astype(np.float32)[by_item]
    weighted_P = weight_P.reshape(-1, *[1] * (output_P.ndim - 1)) * output_P[by_item]
    return np.add.reduceat(weighted_P, np.searchsorted(item_P[by_item], np.arange(len(weights_TE))))
