"""Macro-F1 against energy as the importance factor grows, in simulation, and what equal F1 costs."""

from collections.abc import Callable, Iterable

from airmoe.report.measured import EqualF1, Figures, ImportancePoint, ImportanceSweep
from airmoe.scheduling import Policy
from airmoe.studies.demo.methods import Method

IMPORTANCES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Importance factors of the curves."""

EQUAL_F1 = 0.002
"""JESA's F1 counts as equal to top-k's if it is lower by no more than this."""


def sweep_importance(
    methods: Iterable[Method], figures_of: Callable[[Policy], Figures]
) -> tuple[ImportanceSweep, ...]:
    """Return the curve of each method whose importance factor can be swept."""
    return tuple(
        ImportanceSweep(
            method=method.id,
            points=tuple(
                ImportancePoint(importance=importance, figures=figures_of(method.at_importance(importance)))
                for importance in IMPORTANCES
            ),
        )
        for method in methods
        if method.at_importance is not None
    )


def equal_f1(k: int, topk: Figures, jesa: ImportanceSweep) -> EqualF1:
    """Return top-k beside the cheapest point of JESA's curve with the same F1."""
    as_good = [point for point in jesa.points if point.figures.macro_f1 >= topk.macro_f1 - EQUAL_F1]
    cheapest = min(as_good, key=lambda point: point.figures.joules_per_query, default=None)
    return EqualF1(k=k, topk=topk, jesa=cheapest)
