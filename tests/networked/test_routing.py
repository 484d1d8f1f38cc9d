"""Ways to choose among the experts of a mixture."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from airmoe.networked.routing import ExpertAnswers, pattern

CLASSES = 10
LABELS_T = np.repeat(np.arange(CLASSES), 400)
RING = [[client, (client + 1) % CLASSES] for client in range(CLASSES)]


def perfect_experts(holds: Sequence[Sequence[int]] = RING) -> ExpertAnswers:
    """Experts that know the classes of their clients, and a gate that tosses among the holders."""
    coin_T = np.arange(len(LABELS_T)) % 2
    named_TE = np.array([np.where(np.isin(LABELS_T, h), LABELS_T, np.where(coin_T, *h)) for h in holds]).T
    holder_TE = np.array([[label in held for held in holds] for label in LABELS_T])
    taste_TE = np.random.default_rng(0).random(holder_TE.shape)
    scores_TE = torch.from_numpy(np.where(holder_TE, 1 + taste_TE, 1e-3 * taste_TE))
    probability_TEC = torch.eye(CLASSES)[named_TE]
    scores_TE /= scores_TE.sum(dim=1, keepdim=True)
    return ExpertAnswers(scores_TE.expand(len(holds), -1, -1), probability_TEC, LABELS_T, holds)


def drawn(seed: int, clients: int = 4, items: int = 60, classes: int = 3) -> ExpertAnswers:
    random = np.random.default_rng(seed)
    scores_TE = torch.from_numpy(random.dirichlet(np.ones(clients), items))
    probability_TEC = torch.from_numpy(random.dirichlet(np.ones(classes), (items, clients)))
    holds = [[client % classes] for client in range(clients)]
    labels_T = random.integers(classes, size=items)
    return ExpertAnswers(scores_TE.expand(clients, -1, -1), probability_TEC, labels_T, holds)


def test_random_routing_over_perfect_experts_gives_20_percent_and_10_percent_local() -> None:
    scores = perfect_experts().at_random(seed=3)
    assert scores.macro_f1 == pytest.approx(0.200, abs=0.014)
    assert scores.local_share == pytest.approx(0.10, abs=0.01)
    assert scores.own_local_share == pytest.approx(0.10, abs=0.01)


def test_random_routing_is_drawn_by_the_seed() -> None:
    answers = perfect_experts()
    assert answers.at_random(1) == answers.at_random(1) != answers.at_random(2)


def test_a_perfect_gate_that_is_blind_to_the_client_is_half_local_on_own_classes() -> None:
    scores = perfect_experts().by_gate()
    assert scores.macro_f1 == scores.own_f1 == 1.0
    assert scores.own_local_share == pytest.approx(0.50, abs=0.02)
    assert scores.local_share == pytest.approx(0.10)


def test_two_experts_of_an_image_are_local_by_half_each() -> None:
    scores = perfect_experts().by_gate(k=2)
    assert scores.own_local_share == pytest.approx(0.50)  # both holders are asked, one is the client
    assert scores.local_share == pytest.approx(0.10)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_best_experts_are_mixed_by_their_scores(k: int) -> None:
    answers = drawn(seed=5)
    right = []
    for scores, probability, label in zip(
        answers.scores_NTE[0].numpy(), answers.probability_TEC.numpy(), answers.labels_T, strict=True
    ):
        best = sorted(range(4), key=lambda expert: -scores[expert])[:k]
        mixed = sum(scores[expert] * probability[expert] for expert in best)
        right.append(int(mixed.argmax()) == label)
    every_class = ExpertAnswers(
        answers.scores_NTE, answers.probability_TEC, answers.labels_T, [[0, 1, 2]] * 4
    )
    # Micro-averaged here, so compare what both know: how often class 0 is named right.
    of_0 = [hit for hit, label in zip(right, answers.labels_T, strict=True) if label == 0]
    only_0 = ExpertAnswers(answers.scores_NTE, answers.probability_TEC, answers.labels_T, [[0]] * 4)
    recall = np.mean(of_0)
    assert only_0.by_gate(k).own_f1 == pytest.approx(2 * recall / (1 + recall))
    assert every_class.by_gate(k).own_f1 == pytest.approx(every_class.by_gate(k).macro_f1)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_oracle_is_right_wherever_an_expert_is(seed: int) -> None:
    answers = drawn(seed)
    right_TE = answers.probability_TEC.argmax(dim=2).numpy() == answers.labels_T[:, None]
    holds = [[0, 1, 2]] * 4
    solvable_T = right_TE.any(axis=1)
    kept = ExpertAnswers(
        answers.scores_NTE[:, solvable_T],
        answers.probability_TEC[solvable_T],
        answers.labels_T[solvable_T],
        holds,
    )
    scores = kept.by_oracle()
    assert scores.macro_f1 == 1.0
    assert scores.local_share == pytest.approx(right_TE[solvable_T].mean())


def test_where_no_expert_is_right_the_own_one_answers() -> None:
    wrong = ExpertAnswers(
        torch.ones(2, 3, 2) / 2, torch.eye(2)[torch.ones(3, 2).long()], np.zeros(3, int), [[0]] * 2
    )
    assert wrong.by_oracle().local_share == 1.0
    assert wrong.by_oracle().macro_f1 == 0.0


def test_a_holder_answers_and_the_own_expert_where_it_is_one() -> None:
    scores = perfect_experts().by_holders()
    assert scores.macro_f1 == 1.0
    assert scores.own_local_share == 1.0
    assert scores.local_share == pytest.approx(0.20)


def test_a_holder_may_be_wrong_where_another_expert_is_right() -> None:
    probability_TEC = torch.eye(2)[torch.tensor([[1, 0], [1, 0]])]  # expert 0 names 1, expert 1 names 0
    answers = ExpertAnswers(torch.ones(2, 2, 2) / 2, probability_TEC, np.array([0, 0]), [[0], [1]])
    assert answers.by_holders().macro_f1 == 0.0
    assert answers.by_oracle().macro_f1 == 1.0


def test_the_pattern_says_where_own_images_go() -> None:
    pattern_NE = pattern(perfect_experts())
    assert pattern_NE.sum(axis=1) == pytest.approx(np.ones(10))
    # Client i's classes are held by i - 1, i and i + 1: a quarter, a half and a quarter.
    assert np.diag(pattern_NE) == pytest.approx([0.5] * 10, abs=0.03)
    assert pattern_NE[3, [2, 4]] == pytest.approx([0.25, 0.25], abs=0.03)
    assert pattern_NE[3, 6] == 0.0


def test_clients_with_gates_of_their_own_each_ask_by_theirs() -> None:
    names_own = torch.eye(2)[torch.tensor([[0, 1], [0, 1]])]  # expert e names class e
    scores_NTE = torch.tensor([[[0.9, 0.1]] * 2, [[0.2, 0.8]] * 2])  # each gate prefers its own expert
    answers = ExpertAnswers(scores_NTE, names_own, np.array([0, 1]), [[0], [1]])
    scores = answers.by_gate()
    assert (scores.own_f1, scores.local_share, scores.macro_f1) == (1.0, 1.0, pytest.approx(1 / 3))
    assert pattern(answers).tolist() == [[1.0, 0.0], [0.0, 1.0]]
