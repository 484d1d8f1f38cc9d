"""How many nodes the exact search visits per token, beside the number of sets there are.

Shape suffixes: T tokens, E experts.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from airmoe.links import Ofdma
from airmoe.randomness import stream
from airmoe.report.drawing import MUTED, Drawing, Line, Look
from airmoe.report.style import LOOKS
from airmoe.report.table import Table, three_digits
from airmoe.scheduling import select_experts
from airmoe.studies.curves.figure import Curves, Figure, FigureKind, WithoutWorkspace
from airmoe.studies.curves.panels import panel
from airmoe.studies.curves.rows import Row, Rows
from airmoe.studies.curves.settings import Count, CurveSettings, Experts, Seeds, Values

Floats = NDArray[np.float64]

BAND = 100.0
"""A tenth of the largest weight. Weakly correlated energies differ from their weights by at most this;
strongly correlated ones exceed them by this."""


class EffortSettings(CurveSettings):
    """Tokens of one family of instances against the number of experts; D = min(E / 4, `largest_set`).

    Attributes:
        family: reference has softmax scores and energies of Rayleigh links at 10 dB and computation; the
            others are Pisinger's ("Where are the hard knapsack problems?", 2005) with real numbers.
        experts: E.
        largest_set: the largest D.
        tokens: tokens per seed and number of experts.
        node_budget: nodes after which a token's search ends, with the best set found and no proof.
        threshold: share of the D best experts' scores that is asked, drawn uniformly between these two.
    """

    SCALES: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {"seeds": 5, "tokens": 200, "node_budget": 200_000},
        "smoke": {"seeds": 2, "tokens": 50, "node_budget": 10_000, "values": (8, 16, 32)},
    }

    family: Literal["reference", "uncorrelated", "weakly correlated", "strongly correlated"]
    experts: Annotated[int, Field(ge=4, le=512)] = 8
    largest_set: Experts = 8
    tokens: Count = 1000
    node_budget: Annotated[int, Field(ge=1, le=10**9)] = 10**6
    threshold: Annotated[
        tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=0, le=1)]], Field(strict=False)
    ] = (0.3, 0.95)
    seeds: Seeds = 5
    swept: Literal["experts"] = "experts"
    values: Values = (8, 16, 32, 64, 128, 256)

    @property
    def max_experts(self) -> int:
        """D."""
        return min(self.experts // 4, self.largest_set)


def measure_effort(settings: EffortSettings, seed: int) -> Iterator[Row]:
    """Yield median, 99.9 % quantile and largest number of nodes, and the share of tokens left unproven."""
    for value in settings.values:
        point = settings.at(value)
        noise = stream(seed, f"selection study {point.family} instances", point.experts)
        scores_TE, energy_TE = FAMILIES[point.family](noise, point.tokens, point.experts)
        best_T = np.sort(scores_TE, axis=1)[:, -point.max_experts :].sum(axis=1)
        threshold_T = best_T * noise.uniform(*point.threshold, point.tokens)
        found = select_experts(
            scores_TE, energy_TE, threshold_T, point.max_experts, node_budget=point.node_budget
        )
        yield {
            "x": value,
            "seed": seed,
            "nodes_median": float(np.median(found.search_nodes)),
            "nodes_p999": float(np.quantile(found.search_nodes, 0.999)),
            "nodes_max": float(found.search_nodes.max()),
            "unproven_share": float((found.gap_j > 0).mean()),
        }


def reference(noise: np.random.Generator, tokens: int, experts: int) -> tuple[Floats, Floats]:
    """Return softmax scores of logits of deviation 1.5, and J of Rayleigh links at 10 dB and computation."""
    logits_TE = noise.normal(0.0, 1.5, (tokens, experts))
    scores_TE = np.exp(logits_TE)
    scores_TE /= scores_TE.sum(axis=1, keepdims=True)
    radio = Ofdma()
    gain_TE = 10.0 / radio.snr_per_gain * noise.standard_exponential((tokens, experts))
    return scores_TE, 65536 * radio.energy_per_bit_j(gain_TE) + noise.uniform(1e-4, 1e-3, experts)


def uncorrelated(noise: np.random.Generator, tokens: int, experts: int) -> tuple[Floats, Floats]:
    """Return scores, and energies that are independent of them."""
    return _scaled(_uniform(noise, tokens, experts), _uniform(noise, tokens, experts))


def weakly_correlated(noise: np.random.Generator, tokens: int, experts: int) -> tuple[Floats, Floats]:
    """Return scores, and energies that follow them within a band."""
    weight_TE = _uniform(noise, tokens, experts)
    return _scaled(weight_TE, np.maximum(weight_TE + noise.uniform(-BAND, BAND, weight_TE.shape), 1.0))


def strongly_correlated(noise: np.random.Generator, tokens: int, experts: int) -> tuple[Floats, Floats]:
    """Return scores, and energies that lie above them by a constant."""
    weight_TE = _uniform(noise, tokens, experts)
    return _scaled(weight_TE, weight_TE + BAND)


FAMILIES: dict[str, Callable[[np.random.Generator, int, int], tuple[Floats, Floats]]] = {
    "reference": reference,
    "uncorrelated": uncorrelated,
    "weakly correlated": weakly_correlated,
    "strongly correlated": strongly_correlated,
}


def sets_of_at_most(experts: int, max_experts: int) -> int:
    """Return how many sets of 1 to D experts there are."""
    return sum(math.comb(experts, size) for size in range(1, max_experts + 1))


def _uniform(noise: np.random.Generator, tokens: int, experts: int) -> Floats:
    return noise.uniform(1.0, 1000.0, (tokens, experts))


def _scaled(weight_TE: Floats, profit_TE: Floats) -> tuple[Floats, Floats]:
    """Return weights as scores that sum to 1, and profits, as energies, on the same scale."""
    total_T1 = weight_TE.sum(axis=1, keepdims=True)
    return weight_TE / total_T1, profit_TE / total_T1


def draw_effort(figure: Figure, rows: Rows) -> dict[str, Drawing]:
    """Return nodes against the number of experts, a panel per family."""
    panels = []
    for name in _by_family(figure.curves):
        settings, drawn = figure.curves[name], []
        for label, column, look in (
            ("median", "nodes_median", "median"),
            ("99.9 %", "nodes_p999", "quantile"),
            ("largest", "nodes_max", "largest"),
        ):
            nodes = rows.spread(name, column)
            drawn.append(Line(label, nodes.x, nodes.mean, nodes.deviation, look=LOOKS[look]))
        points = [settings.at(value) for value in settings.values]
        experts = [point.experts for point in points]
        sets = [float(sets_of_at_most(point.experts, point.max_experts)) for point in points]
        drawn.append(Line("sets of at most D", experts, sets, look=Look(MUTED, "", ":")))
        drawn.append(Line("2^E", experts, [2.0**e for e in experts], look=LOOKS["formula"]))
        x_label = f"{figure.heading.x_axis.label}, D = min(E/4, {settings.largest_set})"
        panels.append(panel(figure, drawn, figure.label(name), x_label=x_label))
    return {"": Drawing(panels, columns=2)}


def effort_tables(figure: Figure, rows: Rows) -> list[Table]:
    """Return nodes per token beside the number of sets."""
    body = []
    for name in _by_family(figure.curves):
        nodes = {
            column: rows.spread(name, column) for column in ("nodes_median", "nodes_p999", "unproven_share")
        }
        for index, value in enumerate(nodes["nodes_median"].x):
            point = figure.curves[name].at(int(value))
            largest = max(row["nodes_max"] for row in rows.of(name) if row["x"] == value)
            body.append(
                [
                    figure.label(name),
                    str(point.experts),
                    str(point.max_experts),
                    three_digits(nodes["nodes_median"].mean[index]),
                    three_digits(nodes["nodes_p999"].mean[index]),
                    f"{largest:,.0f}",
                    f"{100 * nodes['unproven_share'].mean[index]:.2g}",
                    three_digits(sets_of_at_most(point.experts, point.max_experts)),
                    three_digits(2.0**point.experts),
                ]
            )
    header = [
        "family",
        figure.x_label("E"),
        "D",
        "median",
        "99.9 %",
        "largest",
        "unproven, %",
        "sets of at most D",
        "2^E",
    ]
    return [Table("nodes", "Nodes per token; the largest is over all seeds", header, body)]


def _by_family(curves: Curves) -> list[str]:
    return sorted(curves, key=lambda name: list(FAMILIES).index(curves[name].family))


SEARCH_NODES = FigureKind(
    EffortSettings,
    ("nodes_median", "nodes_p999", "nodes_max", "unproven_share"),
    WithoutWorkspace(measure_effort),
    draw_effort,
    effort_tables,
)
