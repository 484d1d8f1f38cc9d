"""How clients ask over a real mesh: in turns or together, by a policy, gate and links of their own."""

from collections.abc import Iterator
from functools import partialmethod
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike

from airmoe.data import ImageSet
from airmoe.errors import NoExpertReachedError
from airmoe.links import Links, Ofdma
from airmoe.mesh import MeshClient
from airmoe.mesh.fleet import NodeFleet
from airmoe.runfolder import client_folders
from airmoe.scheduling import Cost, Local, Routing, Slot, TopK
from airmoe.studies.demo.asking import ask, connected_clients
from airmoe.studies.demo.questions import Questions
from tests.mesh.steering import LONG_S

CLIENTS = 4


@pytest.fixture(scope="module")
def clients(run_folder: Path) -> Iterator[list[MeshClient]]:
    """The four clients of the short run, all nodes alive; no answer is late, however busy the machine."""
    with (
        pytest.MonkeyPatch.context() as patient,
        NodeFleet(client_folders(run_folder)) as fleet,
        connected_clients(run_folder, fleet.addresses, fleet.identities) as clients,
    ):
        patient.setattr(MeshClient, "predict", partialmethod(MeshClient.predict, deadline_s=LONG_S))
        yield clients


def questions_of(digits: ImageSet, images: int) -> Questions:
    """The first held-out images; what the clients hold does not matter here."""
    nothing: list[list[int]] = [[]] * CLIENTS
    return Questions(digits.test_images[:images], digits.test_labels[:images], digits.class_names, nothing)


@pytest.mark.parametrize("together", [False, True])
def test_every_client_asks_every_image_once(
    clients: list[MeshClient], digits: ImageSet, together: bool
) -> None:
    questions, told = questions_of(digits, 12), list[tuple[str, int, int]]()

    def progress(activity: str, done: int, total: int, note: str = "", /) -> None:
        told.append((activity, done, total))

    trial = ask(
        clients, questions, policy=TopK(1), together=together, activity="ask twelve", progress=progress
    )
    assert sorted(told) == [("ask twelve", done, 48) for done in range(49)]
    for client in range(CLIENTS):
        assert np.sort(trial.image_Q[trial.client_Q == client]).tolist() == list(range(12))
    assert trial.label_Q.tolist() == questions.labels_T[trial.image_Q].tolist()


def test_each_image_is_asked_over_links_of_its_own_whoever_asks(
    clients: list[MeshClient], digits: ImageSet
) -> None:
    questions = questions_of(digits, 6)
    usual = ask(clients, questions, policy=TopK(1))
    links_T = [Links.from_snr(10.0 + image, Ofdma(subcarriers=12), CLIENTS) for image in range(6)]
    trial = ask(clients, questions, policy=TopK(1), links_T=links_T)
    assert (trial.energy_j_Q > 0).any()
    paid_j = [sorted({*trial.energy_j_Q[trial.image_Q == image]} - {0.0}) for image in range(6)]
    assert [len(joules) for joules in paid_j] == [1] * 6
    assert paid_j == sorted(paid_j, reverse=True)  # the better the links, the less it costs
    again = ask(clients, questions, policy=TopK(1))
    assert again.energy_j_Q.tolist() == usual.energy_j_Q.tolist() != trial.energy_j_Q.tolist()


def test_another_gate_scores_in_this_trial_alone(clients: list[MeshClient], digits: ImageSet) -> None:
    def likes_the_last(payload_T: np.ndarray, snr_db_TE: np.ndarray | None) -> np.ndarray:
        return np.tile(np.eye(CLIENTS, dtype=np.float32)[-1], (len(payload_T), 1))

    questions = questions_of(digits, 6)
    usual = ask(clients, questions, policy=TopK(1))
    other = ask(clients, questions, policy=TopK(1), gate=likes_the_last)
    again = ask(clients, questions, policy=TopK(1))
    assert other.requested_QE.argmax(axis=1).tolist() == [CLIENTS - 1] * 24
    assert again.requested_QE.tolist() == usual.requested_QE.tolist() != other.requested_QE.tolist()


def test_asking_together_gives_the_answers_of_taking_turns(
    clients: list[MeshClient], digits: ImageSet
) -> None:
    both = [
        ask(clients, questions_of(digits, 12), policy=TopK(1), together=together)
        for together in (False, True)
    ]
    rows = [
        sorted(zip(t.client_Q, t.label_Q, t.answer_Q, t.energy_j_Q, t.bytes_Q, strict=True)) for t in both
    ]
    assert rows[0] == rows[1]


def test_taking_turns_neighbouring_queries_are_about_different_images(
    clients: list[MeshClient], digits: ImageSet
) -> None:
    trial = ask(clients, questions_of(digits, 10), policy=Local())
    assert trial.client_Q.tolist() == [0, 1, 2, 3] * 10
    assert all(a != b for a, b in zip(trial.image_Q, trial.image_Q[1:], strict=False))


def test_the_radio_is_charged_exactly_when_another_node_is_asked(
    clients: list[MeshClient], digits: ImageSet
) -> None:
    trial = ask(clients, questions_of(digits, 12), policy=TopK(1))
    away_Q = trial.requested_QE.sum(axis=1) > trial.requested_QE[np.arange(48), trial.client_Q]
    assert 0 < away_Q.sum() < 48
    assert (trial.energy_j_Q > 0).tolist() == away_Q.tolist() == (trial.bytes_Q > 0).tolist()


class FailsForTheLast:
    """Chooses the best expert, but not for the last client, once there is something to choose."""

    name, joint = "fails", False

    def route(self, scores_TE: ArrayLike, cost: Cost, slot: Slot) -> Routing:
        if slot.source_T[0] == CLIENTS - 1 and np.any(scores_TE):
            raise RuntimeError("no policy")
        return TopK(1).route(scores_TE, cost, slot)


def test_asking_together_ends_for_all_when_one_client_cannot_go_on(
    clients: list[MeshClient], digits: ImageSet
) -> None:
    done: list[int] = []
    with pytest.raises(RuntimeError, match="no policy"):
        ask(
            clients,
            questions_of(digits, 450),
            policy=FailsForTheLast(),
            together=True,
            progress=lambda activity, queries, total, note="": done.append(queries),
        )
    assert len(done) < 450


def test_a_query_that_fails_is_counted_and_the_others_go_on(
    clients: list[MeshClient], digits: ImageSet
) -> None:
    broken = iter([True, False, False, True, True])

    def gate(payload_T: np.ndarray, snr_db_TE: np.ndarray | None) -> np.ndarray:
        if next(broken, False):
            raise NoExpertReachedError("nobody")
        return np.full((len(payload_T), CLIENTS), 1 / CLIENTS, np.float32)

    trial = ask(clients, questions_of(digits, 6), policy=TopK(1), gate=gate)
    assert np.flatnonzero(trial.answer_Q < 0).tolist() == [0, 3, 4]
    assert trial.figures(10, [[]] * CLIENTS).failed_queries == 3


def test_each_client_is_summarised_under_its_own_number(clients: list[MeshClient], digits: ImageSet) -> None:
    trial = ask(clients[2:], questions_of(digits, 6), policy=TopK(1))
    assert sorted(set(trial.client_Q)) == [2, 3]
    assert list(chain(*trial.asked_NE()[:2].tolist())) == [0] * 8
