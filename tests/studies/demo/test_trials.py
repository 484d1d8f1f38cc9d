"""The figures of the report, from answers written by hand."""

import numpy as np
import pytest

from airmoe.studies.demo.trials import Trial


def bools(*rows: str) -> np.ndarray:
    """1 for True, one string per row."""
    return np.array([[letter == "1" for letter in row] for row in rows])


@pytest.fixture
def trial() -> Trial:
    """Clients 0 and 2 ask four images of classes 0, 0, 1, 1 each; there are three experts."""
    return Trial(
        client_Q=np.array([0, 0, 0, 0, 2, 2, 2, 2]),
        image_Q=np.array([0, 1, 2, 3, 0, 1, 2, 3]),
        label_Q=np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        answer_Q=np.array([0, 0, 1, 1, 0, 0, 0, 1]),
        requested_QE=bools("100", "100", "010", "011", "001", "001", "010", "110"),
        own_weight_Q=np.array([1.0, 1, 0, 0, 1, 1, 0, 0]),
        energy_j_Q=np.array([0.0, 0, 1, 2, 0, 0, 1, 4]),
        bytes_Q=np.array([0, 0, 100, 200, 0, 0, 100, 400]),
        latency_s_Q=np.array([0.001, 0.001, 0.003, 0.003, 0.001, 0.001, 0.003, np.nan]),
        rerouted_Q=bools("00010000")[0],
        degraded_Q=bools("00000001")[0],
        fallback_Q=bools("00000011")[0],
    )


HOLDS = [[0], [0], [1]]


def test_the_local_share_counts_pairs_that_stay_at_the_client_that_asks(trial: Trial) -> None:
    assert trial.local_share() == 4 / 10  # 10 pairs; client 0's expert is expert 0, client 2's is expert 2


def test_the_local_share_of_chosen_queries_counts_only_those(trial: Trial) -> None:
    assert trial.local_share(trial.label_Q == 0) == 1
    assert trial.local_share(trial.label_Q == 1) == 0


def test_the_local_share_of_no_query_is_zero(trial: Trial) -> None:
    assert trial.local_share(np.zeros(8, np.bool_)) == 0


def test_who_asked_whom_has_a_row_per_client_and_a_column_per_expert(trial: Trial) -> None:
    assert trial.asked_NE().tolist() == [[2, 2, 1], [0, 0, 0], [1, 2, 2]]


def test_f1_is_that_of_each_client_and_class(trial: Trial) -> None:
    # Client 2: class 0 has precision 2/3 and recall 1, class 1 precision 1 and recall 1/2.
    assert trial.f1_NC(classes=2) == pytest.approx(np.array([[1, 1], [0.8, 2 / 3]]))


def test_a_class_that_nobody_asked_about_has_no_f1(trial: Trial) -> None:
    assert np.isnan(trial.f1_NC(classes=3)[:, 2]).all()
    assert trial.figures(3, HOLDS).macro_f1 == trial.figures(2, HOLDS).macro_f1


def test_the_chosen_queries_keep_their_figures(trial: Trial) -> None:
    chosen = trial.of(trial.client_Q == 2)
    assert chosen.answer_Q.tolist() == [0, 0, 0, 1]
    assert chosen.energy_j_Q.tolist() == [0, 0, 1, 4]
    assert chosen.requested_QE.shape == (4, 3)


def test_the_figures_are_means_over_queries_and_f1_over_clients(trial: Trial) -> None:
    assert trial.figures(2, HOLDS).model_dump() == {
        "macro_f1": pytest.approx((1 + (0.8 + 2 / 3) / 2) / 2),
        "macro_f1_by_client": pytest.approx((1, (0.8 + 2 / 3) / 2)),
        "local_share": 0.4,
        "local_share_own_classes": 2 / 5,  # client 0 asks about 0s: 2 of 2 pairs; client 2 about 1s: 0 of 3
        "local_weight": 4 / 8,
        "experts_per_query": 10 / 8,
        "bytes_per_query": 100,
        "joules_per_query": 1,
        "latency_p50_ms": pytest.approx(1),
        "latency_p99_ms": pytest.approx(3),
        "rerouted_share": 1 / 8,
        "degraded_share": 1 / 8,
        "fallback_share": 2 / 8,
        "failed_queries": 0,
        "queries": 8,
    }


def test_where_nothing_was_timed_there_is_no_latency(trial: Trial) -> None:
    untimed = trial.of(np.isnan(trial.latency_s_Q)).figures(2, HOLDS)
    assert untimed.latency_p50_ms is None
    assert untimed.latency_p99_ms is None
