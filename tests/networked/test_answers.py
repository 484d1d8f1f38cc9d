"""Answers of experts at several SNRs, fetched once, drawn in every step."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from airmoe.federated import State
from airmoe.networked.answers import CLEAN_DB, SNR_LEVELS_DB, AnswersAtLevels, questions_over_links

ITEMS, FEATURES, EXPERTS, CLASSES = 40, 50, 4, 3
LEVELS = len(SNR_LEVELS_DB)
LABELS_T = torch.arange(ITEMS) % CLASSES


class Experts:
    """Answers say who was asked, at which level (rows come level by level), about which image and class."""

    def __init__(self) -> None:
        self.received: dict[int, Tensor] = {}

    def __call__(self, expert: int, received_PF: Tensor) -> Tensor:
        self.received[expert] = received_PF
        item_P = (received_PF[-ITEMS:, 0] * ITEMS).round().repeat(len(received_PF) // ITEMS)
        level_P = torch.arange(len(received_PF)) // ITEMS
        return (item_P + 1000 * level_P + 10000 * expert).unsqueeze(1) + 100 * torch.arange(CLASSES)


def features() -> Tensor:
    drawn = torch.from_numpy(np.random.default_rng(5).normal(size=(ITEMS, FEATURES))).float()
    drawn[:, 0] = torch.arange(ITEMS) / ITEMS
    return drawn


def answers_at(levels_db: tuple[float, ...] = SNR_LEVELS_DB) -> AnswersAtLevels:
    return AnswersAtLevels(features(), LABELS_T, EXPERTS, levels_db)


def all_known(levels_db: tuple[float, ...] = SNR_LEVELS_DB) -> tuple[AnswersAtLevels, State, Experts]:
    answers, experts, every_T = answers_at(levels_db), Experts(), torch.arange(ITEMS)
    state = answers.nothing_known()
    for expert in range(EXPERTS):
        said = experts(expert, answers.question(every_T, np.random.default_rng(expert)))
        state = answers.with_answer(state, expert, every_T, said)
    return answers, state, experts


def test_the_levels_end_with_a_clean_one_and_reach_below_what_a_gate_can_tell_apart() -> None:
    assert len(SNR_LEVELS_DB) == 7
    assert list(SNR_LEVELS_DB) == sorted(SNR_LEVELS_DB)
    assert SNR_LEVELS_DB[0] < -10
    assert SNR_LEVELS_DB[-1] == CLEAN_DB[-1] == math.inf


def test_features_arrive_at_every_level_with_the_noise_of_its_snr() -> None:
    _, _, experts = all_known()
    power_T = features().square().mean(dim=1)
    for received_PF in experts.received.values():
        received_LTF = received_PF.reshape(LEVELS, ITEMS, FEATURES)
        assert torch.equal(received_LTF[-1], features())
        for snr_db, received_TF in zip(SNR_LEVELS_DB[:-1], received_LTF, strict=False):
            noise_T = (received_TF - features()).square().mean(dim=1)
            assert float((noise_T / power_T).mean()) == pytest.approx(10 ** (-snr_db / 10), rel=0.1)


def test_an_answer_is_known_for_its_items_and_leaves_the_state_before_as_it_was() -> None:
    answers, item_I = answers_at(), torch.tensor([3, 8])
    before = answers.nothing_known()
    said = torch.full((2 * LEVELS, CLASSES), 0.5)
    after = answers.with_answer(before, 2, item_I, said)
    assert after["known"].nonzero().tolist() == [[3, 2], [8, 2]]
    assert after["true_class"].sum() == 2 * LEVELS * 0.5
    assert not before["known"].any()
    assert not before["true_class"].any()


def test_a_draw_gives_what_the_expert_said_at_the_snr_that_the_gate_sees() -> None:
    answers, state, _ = all_known()
    item_B = torch.tensor([7, 0, 39, 7])
    snr_db_BE, answer_BE = answers.draw(state, item_B, np.random.default_rng(0))
    for row, item in enumerate(item_B.tolist()):
        for expert in range(EXPERTS):
            shown_db = float(snr_db_BE[row, expert])
            level = LEVELS - 1 if shown_db == 30 else SNR_LEVELS_DB.index(shown_db)
            expected = item + 100 * int(LABELS_T[item]) + 1000 * level + 10000 * expert
            assert float(answer_BE[row, expert]) == expected


def test_one_expert_of_each_image_is_the_asking_clients_own_clean_and_at_30_db() -> None:
    answers, state, _ = all_known()
    snr_db_BE, answer_BE = answers.draw(state, torch.arange(ITEMS).repeat(100), np.random.default_rng(0))
    own_BE = snr_db_BE == 30
    assert (own_BE.sum(dim=1) == 1).all()
    assert ((answer_BE[own_BE] // 1000 % 10) == LEVELS - 1).all()
    # Any client may be the one that asks, not only the one that holds the image.
    np.testing.assert_allclose(own_BE.float().mean(dim=0), 1 / EXPERTS, atol=0.03)


def test_the_levels_of_the_other_links_are_equally_likely() -> None:
    answers, state, _ = all_known()
    snr_db_BE, _ = answers.draw(state, torch.arange(ITEMS).repeat(100), np.random.default_rng(1))
    drawn = snr_db_BE[snr_db_BE != 30]
    for snr_db in SNR_LEVELS_DB:
        assert float((drawn == snr_db).float().mean()) == pytest.approx(1 / LEVELS, abs=0.02)


def test_a_gate_that_is_blind_to_the_channel_needs_the_clean_level_only() -> None:
    _, _, experts = all_known(CLEAN_DB)
    assert all(torch.equal(received, features()) for received in experts.received.values())


class Power(nn.Module):
    """Answers with the mean power of what it received, its own number, and 1."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def forward(self, received_PF: Tensor) -> Tensor:
        power_P = received_PF.square().mean(dim=1)
        return torch.stack([power_P, torch.full_like(power_P, self.number), torch.ones_like(power_P)], dim=1)


def test_held_out_images_are_asked_about_over_rayleigh_links_of_their_own() -> None:
    items, mean_snr_db = 3000, 4.0
    features_TF = torch.ones(items, 64)
    random = np.random.default_rng(2)
    snr_db_TE, received, asks_T = questions_over_links(features_TF, EXPERTS, mean_snr_db, random)
    answer_TEC = torch.stack([Power(e)(each) for e, each in enumerate(received)], dim=1)
    own_TE = snr_db_TE == 30
    assert (own_TE.sum(dim=1) == 1).all()
    assert own_TE[torch.arange(items), asks_T].all()
    linear = 10 ** (snr_db_TE[~own_TE] / 10)
    assert float(linear.mean()) == pytest.approx(10 ** (mean_snr_db / 10), rel=0.03)
    assert answer_TEC[0, :, 1].tolist() == [0, 1, 2, 3]
    assert (answer_TEC[:, :, 0][own_TE] == 1).all()
    power = answer_TEC[:, :, 0][~own_TE]
    good = linear > 1
    assert float((power[good] - 1 - 1 / linear[good]).mean()) == pytest.approx(0, abs=0.01)
