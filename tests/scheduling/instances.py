"""Instances of expert selection: the one law of `spec/scheduling.md`, and harder ones.

Shape suffixes: T items, E experts.
"""

import numpy as np
from numpy.typing import NDArray

Instances = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def reference(rng: np.random.Generator, items: int, experts: int, max_experts: int) -> Instances:
    """Return scores (T, E), energies (T, E) in J over Rayleigh links at 10 dB, and thresholds (T,)."""
    logit_TE = rng.normal(0.0, 1.5, (items, experts))
    scores_TE = np.exp(logit_TE) / np.exp(logit_TE).sum(axis=1, keepdims=True)
    bits_per_s_hz = np.log2(1 + 10 * rng.exponential(size=(items, experts)))
    energy_TE = 65536 * 1e-2 / (1e6 * bits_per_s_hz) + rng.uniform(1e-4, 1e-3, experts)
    best_T = np.sort(scores_TE, axis=1)[:, ::-1][:, :max_experts].sum(axis=1)
    return scores_TE, energy_TE, best_T * rng.uniform(0.3, 0.95, items)


def with_ties(rng: np.random.Generator, items: int, experts: int, max_experts: int) -> Instances:
    """Return the same with few distinct values, some of them 0, and some experts unreachable."""
    scores_TE, energy_TE, threshold_T = reference(rng, items, experts, max_experts)
    scores_TE = np.round(scores_TE * 8) / 8  # sums are exact, so thresholds are met exactly
    energy_TE = np.minimum(np.round(energy_TE * 4e3), 5.0)
    energy_TE[rng.random(energy_TE.shape) < 0.15] = np.inf
    return scores_TE, energy_TE, np.round(threshold_T * 8) / 8


def strongly_correlated(rng: np.random.Generator, items: int, experts: int, max_experts: int) -> Instances:
    """Return the same with energies that follow the scores: a hard family of knapsacks."""
    scores_TE, _, threshold_T = reference(rng, items, experts, max_experts)
    return scores_TE, scores_TE + 0.1, threshold_T


def subset_sum(rng: np.random.Generator, items: int, experts: int, max_experts: int) -> Instances:
    """Return the same with energies equal to the scores: the hardest family of knapsacks."""
    scores_TE, _, threshold_T = reference(rng, items, experts, max_experts)
    return scores_TE, scores_TE.copy(), threshold_T
