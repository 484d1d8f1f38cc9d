"""The measures of clients' answers."""

import numpy as np
import pytest

from airmoe.networked.scores import scores_of

LABELS_T = np.repeat(np.arange(10), 100)
HOLDS = [[client, (client + 1) % 10] for client in range(10)]


def test_clients_that_know_their_two_classes_alone_get_the_f1_of_the_formula() -> None:
    coin_T = np.arange(len(LABELS_T)) % 2
    guess_NT = np.array([np.where(coin_T, *held) for held in HOLDS])
    knows_NT = np.array([np.isin(LABELS_T, held) for held in HOLDS])
    answers_NT = np.where(knows_NT, LABELS_T, guess_NT)
    scores = scores_of(answers_NT, np.ones(answers_NT.shape), LABELS_T, HOLDS, 10)
    assert scores.macro_f1 == pytest.approx(2 * 2**2 / (10 * (10 + 2)))
    assert (scores.own_f1, scores.local_share, scores.own_local_share) == (1.0, 1.0, 1.0)


def test_own_measures_are_those_of_the_images_of_own_classes() -> None:
    answers_NT = np.array([[0, 0, 1, 1], [1, 1, 1, 1]])
    local_NT = np.array([[1.0, 0.0, 0.5, 0.5], [0.0, 0.0, 1.0, 0.0]])
    scores = scores_of(answers_NT, local_NT, np.array([0, 0, 1, 1]), [[0], [1]], 2)
    assert scores.macro_f1 == pytest.approx((1 + (0 + 2 / 3) / 2) / 2)
    assert scores.own_f1 == 1.0
    assert scores.local_share == pytest.approx(3 / 8)
    assert scores.own_local_share == pytest.approx((0.5 + 0.5) / 2)


def test_a_client_whose_classes_are_not_held_out_leaves_the_own_means_alone() -> None:
    answers_NT = np.array([[0, 1], [1, 0]])
    local_NT = np.array([[1.0, 1.0], [0.0, 0.0]])
    scores = scores_of(answers_NT, local_NT, np.array([0, 1]), [[0, 1], [2]], 3)
    assert (scores.own_f1, scores.own_local_share) == (1.0, 1.0)
    assert np.isnan(scores_of(answers_NT, local_NT, np.array([0, 1]), [[2], [2]], 3).own_f1)
