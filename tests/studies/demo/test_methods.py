"""The table of methods: everything that the report needs to know of each, once."""

from typing import get_args

import numpy as np

from airmoe.report.measured import Figures, ImportanceSweep, MethodId
from airmoe.scheduling import Policy
from airmoe.studies.demo.methods import IMPORTANCE, demo_methods
from airmoe.studies.demo.sweeps import equal_f1, sweep_importance

METHODS = demo_methods(clients=4, seed=0)


def test_the_table_has_each_method_of_the_report_once() -> None:
    assert [method.id for method in METHODS] == list(get_args(MethodId))
    assert len({method.label for method in METHODS}) == len(METHODS)


def test_one_method_is_decided_by_a_scheduler() -> None:
    assert [method.id for method in METHODS if method.policy.joint] == ["moe-jesa"]


def test_averaging_weighs_all_experts_alike() -> None:
    (averaged,) = [method for method in METHODS if method.gate is not None]
    assert averaged.id == "all-averaged"
    assert averaged.gate is not None
    assert averaged.gate(np.zeros((2, 400), np.float32), None).tolist() == [[0.25] * 4] * 2


def test_a_method_that_is_swept_is_asked_at_one_of_its_importance_factors() -> None:
    for method in METHODS:
        if method.at_importance is not None:
            assert method.policy == method.at_importance(IMPORTANCE)
            assert method.policy != method.at_importance(IMPORTANCE / 2)


def figures(f1: float, joules: float) -> Figures:
    return Figures(
        macro_f1=f1,
        macro_f1_by_client=(f1,),
        local_share=0,
        local_share_own_classes=0,
        local_weight=0,
        experts_per_query=1,
        bytes_per_query=0,
        joules_per_query=joules,
        latency_p50_ms=None,
        latency_p99_ms=None,
        rerouted_share=0,
        degraded_share=0,
        fallback_share=0,
        failed_queries=0,
        queries=1,
    )


def swept() -> tuple[ImportanceSweep, ...]:
    """F1 grows with the importance factor in the policy's name, energy with its square."""

    def figures_of(policy: Policy) -> Figures:
        importance = float(policy.name.split(":")[1])
        return figures(importance, importance**2)

    return sweep_importance(METHODS, figures_of)


def test_the_sweep_measures_each_such_method_at_every_importance_factor() -> None:
    des, jesa = swept()
    assert (des.method, jesa.method) == ("moe-des", "moe-jesa")
    for sweep in (des, jesa):
        assert [point.figures.macro_f1 for point in sweep.points] == [p.importance for p in sweep.points]


def test_at_equal_f1_stands_the_cheapest_point_that_is_as_good() -> None:
    _, jesa = swept()
    found = equal_f1(1, figures(0.5015, 9.0), jesa)
    assert found.jesa is not None
    assert (found.jesa.importance, found.jesa.figures.joules_per_query) == (0.5, 0.25)


def test_where_no_point_is_as_good_there_is_none() -> None:
    _, jesa = swept()
    assert equal_f1(2, figures(0.9521, 9.0), jesa).jesa is None
