"""The figures of the report, from answers written by hand; and how clients take turns, over a real mesh."""

import contextlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike

from airmoe.data import ImageSet
from airmoe.errors import NoExpertReachedError
from airmoe.mesh import MeshClient, open_session
from airmoe.runfolder import client_folders
from airmoe.scheduling import Cost, Routing, Slot, TopK
from airmoe.studies.demo.fleet import NodeFleet
from airmoe.studies.demo.trials import Trial, ask


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
    assert trial.summary(3, HOLDS)["macro_f1"] == trial.summary(2, HOLDS)["macro_f1"]


def test_the_chosen_queries_keep_their_figures(trial: Trial) -> None:
    chosen = trial.of(trial.client_Q == 2)
    assert chosen.answer_Q.tolist() == [0, 0, 0, 1]
    assert chosen.energy_j_Q.tolist() == [0, 0, 1, 4]
    assert chosen.requested_QE.shape == (4, 3)


def test_the_summary_is_made_of_means_over_queries_and_f1_over_clients(trial: Trial) -> None:
    summary = trial.summary(2, HOLDS)
    assert summary == {
        "macro_f1": pytest.approx((1 + (0.8 + 2 / 3) / 2) / 2),
        "macro_f1_by_client": pytest.approx([1, (0.8 + 2 / 3) / 2]),
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
    untimed = trial.of(np.isnan(trial.latency_s_Q)).summary(2, HOLDS)
    assert untimed["latency_p50_ms"] is None
    assert untimed["latency_p99_ms"] is None


@pytest.fixture(scope="module")
def clients(run_folder: Path) -> Iterator[list[MeshClient]]:
    """The four clients of the short run, all nodes alive."""
    folders = client_folders(run_folder)
    with contextlib.ExitStack() as open_:
        fleet = open_.enter_context(NodeFleet(folders))
        session = open_session(connect=fleet.addresses)
        open_.callback(session.close)
        clients = [open_.enter_context(MeshClient(folder, session=session)) for folder in folders]
        for client in clients:
            client.wait_for_nodes(len(folders), timeout_s=20)
        yield clients


@pytest.mark.parametrize("together", [False, True])
def test_every_client_asks_every_image_once(
    clients: list[MeshClient], digits: ImageSet, together: bool
) -> None:
    images, labels = digits.test_images[:12], digits.test_labels[:12]
    done: list[int] = []
    trial = ask(clients, images, labels, together=together, after_query=done.append)
    assert sorted(done) == list(range(1, 49))
    for client in range(4):
        asked = np.sort(trial.label_Q[trial.client_Q == client])
        assert asked.tolist() == np.sort(labels).tolist()


def test_every_query_may_meet_links_of_its_own(clients: list[MeshClient], digits: ImageSet) -> None:
    told: list[int] = []
    trial = ask(clients, digits.test_images[:5], digits.test_labels[:5], links_of=told.append)
    assert told == trial.image_Q.tolist()


def test_asking_together_gives_the_answers_of_taking_turns(
    clients: list[MeshClient], digits: ImageSet
) -> None:
    images, labels = digits.test_images[:12], digits.test_labels[:12]
    both = [ask(clients, images, labels, together=together) for together in (False, True)]
    rows = [
        sorted(zip(t.client_Q, t.label_Q, t.answer_Q, t.energy_j_Q, t.bytes_Q, strict=True)) for t in both
    ]
    assert rows[0] == rows[1]


def test_taking_turns_neighbouring_queries_are_about_different_images(
    clients: list[MeshClient], digits: ImageSet
) -> None:
    ten = [int(np.flatnonzero(digits.test_labels == label)[0]) for label in range(10)]
    trial = ask(clients, digits.test_images[ten], digits.test_labels[ten])
    assert trial.client_Q.tolist() == [0, 1, 2, 3] * 10
    assert all(a != b for a, b in zip(trial.label_Q, trial.label_Q[1:], strict=False))


def test_the_radio_is_charged_exactly_when_another_node_is_asked(
    clients: list[MeshClient], digits: ImageSet
) -> None:
    trial = ask(clients, digits.test_images[:12], digits.test_labels[:12])
    away_Q = trial.requested_QE.sum(axis=1) > trial.requested_QE[np.arange(48), trial.client_Q]
    assert 0 < away_Q.sum() < 48
    assert (trial.energy_j_Q > 0).tolist() == away_Q.tolist() == (trial.bytes_Q > 0).tolist()


class Fails:
    """Chooses the best expert until it is broken, then raises."""

    name, joint, broken = "fails", False, False

    def route(self, scores_TE: ArrayLike, cost: Cost, slot: Slot) -> Routing:
        if self.broken:
            raise RuntimeError("no policy")
        return TopK(1).route(scores_TE, cost, slot)


def test_asking_together_ends_for_all_when_one_client_cannot_go_on(
    clients: list[MeshClient], digits: ImageSet
) -> None:
    done: list[int] = []
    last, policy, fails = clients[-1], clients[-1].policy, Fails()
    last.policy = fails
    fails.broken = True
    try:
        with pytest.raises(RuntimeError, match="no policy"):
            ask(clients, digits.test_images, digits.test_labels, together=True, after_query=done.append)
    finally:
        last.policy = policy
    assert len(done) < len(digits.test_labels)


def test_a_query_that_fails_is_counted_and_the_others_go_on(
    clients: list[MeshClient], digits: ImageSet
) -> None:
    def broken(features_TF: np.ndarray, snr_db_TE: np.ndarray | None) -> np.ndarray:
        raise NoExpertReachedError("nobody")

    last, gate = clients[-1], clients[-1].gate
    last.gate = broken
    try:
        trial = ask(clients, digits.test_images[:6], digits.test_labels[:6])
    finally:
        last.gate = gate
    assert np.flatnonzero(trial.answer_Q < 0).tolist() == np.flatnonzero(trial.client_Q == 3).tolist()
    assert trial.summary(10, [[]] * 4)["failed_queries"] == 6


def test_each_client_is_summarised_under_its_own_number(clients: list[MeshClient], digits: ImageSet) -> None:
    trial = ask(clients[2:], digits.test_images[:6], digits.test_labels[:6])
    assert sorted(set(trial.client_Q)) == [2, 3]
    assert list(chain(*trial.asked_NE()[:2].tolist())) == [0] * 8
