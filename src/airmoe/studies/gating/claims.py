"""Claims about channel-aware gating, checked on the rows of a study."""

from collections.abc import Mapping, Sequence

import numpy as np

from airmoe.studies.curves.figure import Curves
from airmoe.studies.curves.rows import Row, Rows
from airmoe.studies.gating.settings import GatingSettings

CONTESTED_DB = (-5.0, 0.0, 5.0, 10.0)
"""Mean SNRs at which a gate can still win something."""


DECIDED_SPREADS_DB = (0.0, 10.0)
"""Spreads of the links for which something is claimed."""


def claims(curves: Mapping[str, Curves], rows: Mapping[str, Rows]) -> list[str]:
    """Return a line for each claim that these figures decide: what was measured, and whether it holds."""
    differences, shares = [], []
    for figure, of_figure in curves.items():
        aware, blind = (_only_curve_of(method, of_figure) for method in ("channel-aware", "naive-noise"))
        if aware and blind and _decides(of_figure[aware]):
            both = (rows[figure].of(aware), rows[figure].of(blind))
            differences += _difference(figure, *both, equal=of_figure[aware].spread_db == 0)
        if next(iter(of_figure.values())).swept == "own_snr_db":
            shares += _shares(of_figure, rows[figure])
    return differences + shares


def _only_curve_of(method: str, curves: Curves) -> str | None:
    """Return the name of the curve of a method, None unless there is exactly one."""
    names = [name for name, curve in curves.items() if curve.method == method]
    return names[0] if len(names) == 1 else None


def _decides(aware: GatingSettings) -> bool:
    """Return whether something is claimed over these links."""
    spread = aware.swept == "mean_snr_db" and "{spread_db" in aware.law
    return spread and aware.spread_db in DECIDED_SPREADS_DB


def _difference(
    figure: str, aware_rows: Sequence[Row], blind_rows: Sequence[Row], *, equal: bool
) -> list[str]:
    """Return a line on channel-aware minus naive-noise, averaged over contested means; none for one seed."""
    aware, blind = _contested(aware_rows), _contested(blind_rows)
    by_seed: dict[float, list[float]] = {}
    for x, seed in sorted(aware.keys() & blind.keys()):
        by_seed.setdefault(seed, []).append(aware[x, seed] - blind[x, seed])
    difference_S = np.array([np.mean(differences) for differences in by_seed.values()])
    if len(difference_S) < 2:
        return []
    mean, error = float(difference_S.mean()), float(difference_S.std(ddof=1) / len(difference_S) ** 0.5)
    holds = abs(mean) < 2 * error if equal else mean > 2 * error
    wanted = "less than twice the standard error" if equal else "more than twice the standard error"
    return [
        f"{figure}: channel-aware minus naive + noise {100 * mean:+.2f} points, standard error "
        f"{100 * error:.2f} over {len(difference_S)} seeds; wanted {wanted}: {_verdict(holds)}"
    ]


def _contested(rows: Sequence[Row]) -> dict[tuple[float, float], float]:
    """Return the accuracy at contested means, by mean and seed."""
    return {(row["x"], row["seed"]): row["accuracy"] for row in rows if row["x"] in CONTESTED_DB}


def _shares(curves: Curves, rows: Rows) -> list[str]:
    lines = []
    for name, curve in curves.items():
        if curve.method != "channel-aware":
            continue
        spread = rows.spread(name, "share")
        share = np.array(spread.mean)
        if len(share) < 2 or not np.isfinite(share).all():
            continue
        # From one interval to the next a share may wander as much as from seed to seed.
        steps = np.diff(share) + np.array(spread.deviation[1:])
        falls = share[-1] > share[0] and bool((steps > 0).all())
        least = min(row["least_share"] for row in rows.of(name))
        largest = max(row["largest_share"] for row in rows.of(name))
        low, high = 0.5 / curve.experts, 2 / curve.experts
        lines += [
            f"{curve.label or name}: an expert's share falls from {100 * share[-1]:.1f} to "
            f"{100 * share[0]:.1f} % with its own SNR: {_verdict(falls)}",
            f"{curve.label or name}: shares overall {100 * least:.1f} to {100 * largest:.1f} %, wanted "
            f"{100 * low:.1f} to {100 * high:.1f} %: {_verdict(low <= least and largest <= high)}",
        ]
    return lines


def _verdict(holds: bool) -> str:
    return "holds" if holds else "does not hold"
