"""Macro-F1 against energy as the importance factor grows, in simulation, and what equal F1 costs."""

from collections.abc import Callable, Sequence
from typing import Any

from airmoe.scheduling import Des, Jesa, Policy

IMPORTANCES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Importance factors of the curves."""

EQUAL_F1 = 0.002
"""JESA's F1 counts as equal to that of top-k if it is lower by no more than this."""

Point = dict[str, Any]


def sweep_importance(summary_of: Callable[[Policy], Point]) -> dict[str, list[Point]]:
    """Return the curves of DES and JESA, at most two experts; each point is a summary and its importance."""
    return {
        name: [{"importance": importance} | summary_of(rule(importance, 2)) for importance in IMPORTANCES]
        for name, rule in (("DES", Des), ("JESA", Jesa))
    }


def equal_f1(k: int, topk: Point, curve: Sequence[Point]) -> Point | None:
    """Return what top-k spends beside the cheapest point of a curve with the same F1; None if none has it."""
    as_good = [point for point in curve if point["macro_f1"] >= topk["macro_f1"] - EQUAL_F1]
    if not as_good:
        return None
    cheapest = min(as_good, key=lambda point: point["joules_per_query"])
    return {
        "k": k,
        "topk_f1": topk["macro_f1"],
        "topk_joules": topk["joules_per_query"],
        "importance": cheapest["importance"],
        "f1": cheapest["macro_f1"],
        "joules": cheapest["joules_per_query"],
    }
