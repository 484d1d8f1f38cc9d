"""The exact optimum of P2 by enumeration and by an integer program, independent of the library's solvers.

Shape suffixes: T items, E experts (one per node), N nodes, M subcarriers.
"""

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp

Floats = NDArray[np.float64]
MISSED_J = 1e2
"""What an item counts that misses its threshold: more than any energy here."""


def instance(nodes: int, subcarriers: int, items: int, seed: int) -> tuple[Floats, NDArray[np.int64], Floats]:
    """Return scores softmax(N(0, 1.5^2)) (T, E), sources (T,) and Rayleigh gains (N, N, M) of 10 dB."""
    rng = np.random.default_rng(seed)
    logit_TE = rng.normal(0.0, 1.5, (items, nodes))
    scores_TE = np.exp(logit_TE) / np.exp(logit_TE).sum(axis=1, keepdims=True)
    gain_NNM = rng.exponential(size=(nodes, nodes, subcarriers)) * 10 * 3.98e-15 / 1e-2
    return scores_TE, rng.integers(0, nodes, items), gain_NNM


def price_NNM(gain_NNM: Floats, bits: float = 65536) -> Floats:
    """Return J per item: P0 s0 / (B0 log2(1 + H P0 / N0))."""
    with np.errstate(divide="ignore"):
        return bits * 1e-2 / (1e6 * np.log2(1 + gain_NNM * 1e-2 / 3.98e-15))


def optimum_of_three_nodes(
    scores_TE: Floats, source_T: NDArray[np.int64], price_NNM: Floats, threshold: float, max_experts: int
) -> tuple[int, float]:
    """Return (items that miss their threshold, J) of the best schedule of three nodes, each with one expert.

    The items of a source use two links only, so its cost is a table over the subcarriers of these two; the
    three tables are then joined over all ways in which no subcarrier is used twice. A link needs to consider
    its six best subcarriers, since five others exist; it may go without where not all links can be served.
    """
    price_LM = np.concatenate([price_NNM[i, np.arange(3) != i] for i in np.unique(source_T)])
    all_served = len(price_LM) <= price_LM.shape[1] and np.isfinite(price_LM).all()
    without = [] if all_served else [-1]
    tables = []
    for source in range(3):
        one, other = (node for node in range(3) if node != source)
        best = [[*without, *np.argsort(price_NNM[source, node], kind="stable")[:6]] for node in (one, other)]
        if source not in source_T:  # no link to schedule
            best = [[-1], [-1]]
        options = [(a, b) for a in best[0] for b in best[1] if a != b or a < 0]
        price_XE = np.zeros((len(options), 3))
        for row, option in enumerate(options):
            for node, subcarrier in zip((one, other), option, strict=True):
                price_XE[row, node] = price_NNM[source, node, subcarrier] if subcarrier >= 0 else np.inf
        cost_X = np.zeros(len(options))
        for score_E in scores_TE[source_T == source]:
            cost_X += cheapest_X(score_E, price_XE, threshold, max_experts)
        tables.append(sorted(zip(cost_X.tolist(), options, strict=True)))
    best_cost = joined(tables)
    missed = round(best_cost / MISSED_J)
    return missed, best_cost - missed * MISSED_J


def joined(tables: list[list[tuple[float, tuple[int, int]]]]) -> float:
    """Return the least sum of one entry from each of three sorted tables, no subcarrier being used twice."""
    best_cost = np.inf
    for cost_0, used_0 in tables[0]:
        if cost_0 + tables[1][0][0] + tables[2][0][0] >= best_cost:
            break
        for cost_1, used_1 in tables[1]:
            if cost_0 + cost_1 + tables[2][0][0] >= best_cost:
                break
            if clash(used_0, used_1):
                continue
            for cost_2, used_2 in tables[2]:
                if cost_0 + cost_1 + cost_2 >= best_cost:
                    break
                if not clash(used_0 + used_1, used_2):
                    best_cost = cost_0 + cost_1 + cost_2
                    break
    return best_cost


def clash(used: tuple[int, ...], more: tuple[int, ...]) -> bool:
    return any(subcarrier >= 0 and subcarrier in used for subcarrier in more)


def cheapest_X(score_E: Floats, price_XE: Floats, threshold: float, max_experts: int) -> Floats:
    """Return the energy of one item under each row of prices, by trying all sets."""
    best_X, fallback_X = np.full(len(price_XE), np.inf), np.full(len(price_XE), np.inf)
    most_X = np.full(len(price_XE), -1.0)
    for size in range(1, max_experts + 1):
        for experts in itertools.combinations(range(score_E.size), size):
            energy_X = price_XE[:, experts].sum(axis=1)
            score = score_E[list(experts)].sum()
            if score >= threshold - 1e-9:
                best_X = np.minimum(best_X, energy_X)
            elif size <= max_experts:
                better_X = np.isfinite(energy_X) & (score > most_X)
                most_X, fallback_X = (
                    np.where(better_X, score, most_X),
                    np.where(better_X, energy_X, fallback_X),
                )
    return np.where(np.isfinite(best_X), best_X, fallback_X + MISSED_J)


def optimum_by_integer_program(
    scores_TE: Floats, source_T: NDArray[np.int64], price_NNM: Floats, threshold: float, max_experts: int
) -> float:
    """Return J of the best schedule if every threshold can be met: one integer program for everything.

    Stops after a minute, with the best schedule found. Variables: x_te (expert e gets item t), beta_lm (link
    l has subcarrier m), u_lm (items on l that use m).
    """
    items, experts = scores_TE.shape
    subcarriers = price_NNM.shape[2]
    links = [(i, j) for i in range(experts) for j in range(experts) if i != j]
    scale = price_NNM[~np.eye(experts, dtype=bool)].mean()
    xs, betas = items * experts, len(links) * subcarriers
    cost = np.concatenate([np.zeros(xs + betas), np.concatenate([price_NNM[link] for link in links]) / scale])
    rows, low, high = [], [], []

    def row(entries: dict[int, float], least: float, most: float) -> None:
        line = np.zeros(cost.size)
        for index, value in entries.items():
            line[index] = value
        rows.append(line)
        low.append(least)
        high.append(most)

    for item in range(items):
        places = range(item * experts, (item + 1) * experts)
        row(dict(zip(places, scores_TE[item], strict=True)), threshold, np.inf)
        row(dict.fromkeys(places, 1.0), 1, max_experts)
    for subcarrier in range(subcarriers):
        row({xs + link * subcarriers + subcarrier: 1.0 for link in range(len(links))}, 0, 1)
    for number, (i, j) in enumerate(links):
        mine = [item for item in range(items) if source_T[item] == i]
        first = number * subcarriers
        row({xs + first + m: 1.0 for m in range(subcarriers)}, 0, 1)
        balance = {item * experts + j: -1.0 for item in mine}
        row(balance | {xs + betas + first + m: 1.0 for m in range(subcarriers)}, 0, 0)
        for m in range(subcarriers):
            row({xs + betas + first + m: 1.0, xs + first + m: -float(len(mine))}, -np.inf, 0)
    upper = np.concatenate([np.ones(xs + betas), np.full(betas, float(items))])
    integrality = np.concatenate([np.ones(xs + betas), np.zeros(betas)])
    solution = milp(
        cost,
        constraints=LinearConstraint(np.array(rows), low, high),
        bounds=Bounds(0, upper),
        integrality=integrality,
        options={"mip_rel_gap": 0.0, "time_limit": 60.0},
    )
    assert solution.x is not None, solution.message
    return float(solution.fun * scale)
