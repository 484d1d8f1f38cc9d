"""Instances of expert selection: the one law of `spec/scheduling.md`, and harder ones.

The hard families are those of Pisinger, "Where are the hard knapsack problems?" (Computers & Operations
Research 32, 2005), with real numbers: a weight becomes a score, a profit an energy.

Shape suffixes: T items, E experts.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Instances = tuple[Floats, Floats, Floats]
Family = Callable[[np.random.Generator, int, int, int], Instances]


def reference(rng: np.random.Generator, items: int, experts: int, max_experts: int) -> Instances:
    """Return scores (T, E), energies (T, E) in J over Rayleigh links at 10 dB, and thresholds (T,)."""
    logit_TE = rng.normal(0.0, 1.5, (items, experts))
    scores_TE = np.exp(logit_TE) / np.exp(logit_TE).sum(axis=1, keepdims=True)
    bits_per_s_hz = np.log2(1 + 10 * rng.exponential(size=(items, experts)))
    energy_TE = 65536 * 1e-2 / (1e6 * bits_per_s_hz) + rng.uniform(1e-4, 1e-3, experts)
    return scores_TE, energy_TE, _threshold(rng, scores_TE, max_experts)


def with_ties(rng: np.random.Generator, items: int, experts: int, max_experts: int) -> Instances:
    """Return the same with few distinct values, some of them 0, and some experts unreachable."""
    scores_TE, energy_TE, threshold_T = reference(rng, items, experts, max_experts)
    scores_TE = np.round(scores_TE * 8) / 8  # sums are exact, so thresholds are met exactly
    energy_TE = np.minimum(np.round(energy_TE * 4e3), 5.0)
    energy_TE[rng.random(energy_TE.shape) < 0.15] = np.inf
    return scores_TE, energy_TE, np.round(threshold_T * 8) / 8


def uncorrelated(rng: np.random.Generator, items: int, experts: int, max_experts: int) -> Instances:
    """Return energies that have nothing to do with the scores."""
    weight_TE = _weights(rng, items, experts)
    return _scaled(rng, weight_TE, _weights(rng, items, experts), max_experts)


def weakly_correlated(rng: np.random.Generator, items: int, experts: int, max_experts: int) -> Instances:
    """Return energies that follow the scores within a tenth of the largest."""
    weight_TE = _weights(rng, items, experts)
    near_TE = weight_TE + rng.uniform(-100.0, 100.0, weight_TE.shape)
    return _scaled(rng, weight_TE, np.maximum(near_TE, 1.0), max_experts)


def strongly_correlated(rng: np.random.Generator, items: int, experts: int, max_experts: int) -> Instances:
    """Return energies that are the scores and a constant."""
    weight_TE = _weights(rng, items, experts)
    return _scaled(rng, weight_TE, weight_TE + 100.0, max_experts)


def inverse_strongly_correlated(
    rng: np.random.Generator, items: int, experts: int, max_experts: int
) -> Instances:
    """Return scores that are the energies and a constant."""
    profit_TE = _weights(rng, items, experts)
    return _scaled(rng, profit_TE + 100.0, profit_TE, max_experts)


def subset_sum(rng: np.random.Generator, items: int, experts: int, max_experts: int) -> Instances:
    """Return energies equal to the scores: no bound tells one set from another."""
    weight_TE = _weights(rng, items, experts)
    return _scaled(rng, weight_TE, weight_TE, max_experts)


def all_equal(rng: np.random.Generator, items: int, experts: int, max_experts: int) -> Instances:
    """Return energies that are all the same: the fewest experts win."""
    weight_TE = _weights(rng, items, experts)
    return _scaled(rng, weight_TE, np.full_like(weight_TE, 500.0), max_experts)


HARD: list[Family] = [
    uncorrelated,
    weakly_correlated,
    strongly_correlated,
    inverse_strongly_correlated,
    subset_sum,
    all_equal,
]


def _weights(rng: np.random.Generator, items: int, experts: int) -> Floats:
    return rng.uniform(1.0, 1000.0, (items, experts))


def _scaled(rng: np.random.Generator, weight_TE: Floats, profit_TE: Floats, max_experts: int) -> Instances:
    """Return the weights as scores that sum to 1, the profits on the same scale, and thresholds."""
    total_T1 = weight_TE.sum(axis=1, keepdims=True)
    scores_TE = weight_TE / total_T1
    return scores_TE, profit_TE / total_T1, _threshold(rng, scores_TE, max_experts)


def _threshold(rng: np.random.Generator, scores_TE: Floats, max_experts: int) -> Floats:
    """Return (T,): from 0.3 to 0.95 of what the best experts score together."""
    best_T: Floats = np.sort(scores_TE, axis=1)[:, ::-1][:, :max_experts].sum(axis=1)
    return best_T * rng.uniform(0.3, 0.95, len(scores_TE))
