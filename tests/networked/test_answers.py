"""Answers of experts at several SNRs, fetched once, drawn in every step."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from airmoe.networked.answers import CLEAN_DB, SNR_LEVELS_DB, AnswerCache, answers_over_links

ITEMS, FEATURES, EXPERTS, CLASSES, OWN = 40, 50, 4, 3, 1
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


def cache_of(levels_db: tuple[float, ...] = SNR_LEVELS_DB) -> AnswerCache:
    return AnswerCache(features(), LABELS_T, EXPERTS, OWN, levels_db)


def noise_of(expert: int) -> np.random.Generator:
    return np.random.default_rng(expert)


EVERYTHING_TE = torch.ones(ITEMS, EXPERTS, dtype=torch.bool)


def full_cache() -> tuple[AnswerCache, Experts]:
    cache, experts = cache_of(), Experts()
    cache.fetch(EVERYTHING_TE, experts, noise_of)
    return cache, experts


def test_the_levels_end_with_a_clean_one_and_reach_below_what_a_gate_can_tell_apart() -> None:
    assert len(SNR_LEVELS_DB) == 7
    assert list(SNR_LEVELS_DB) == sorted(SNR_LEVELS_DB)
    assert SNR_LEVELS_DB[0] < -10
    assert SNR_LEVELS_DB[-1] == CLEAN_DB[-1] == math.inf


def test_features_arrive_at_every_level_with_the_noise_of_its_snr() -> None:
    _, experts = full_cache()
    power_T = features().square().mean(dim=1)
    for received_PF in experts.received.values():
        received_LTF = received_PF.reshape(LEVELS, ITEMS, FEATURES)
        assert torch.equal(received_LTF[-1], features())
        for snr_db, received_TF in zip(SNR_LEVELS_DB[:-1], received_LTF, strict=False):
            noise_T = (received_TF - features()).square().mean(dim=1)
            assert float((noise_T / power_T).mean()) == pytest.approx(10 ** (-snr_db / 10), rel=0.1)


def test_every_level_is_charged_and_the_own_expert_is_free() -> None:
    assert cache_of().fetch(EVERYTHING_TE, Experts(), noise_of) == (
        7 * ITEMS * (EXPERTS - 1) * (FEATURES + CLASSES) * 4
    )
    only_own_TE = torch.zeros_like(EVERYTHING_TE)
    only_own_TE[:, OWN] = True
    assert cache_of().fetch(only_own_TE, Experts(), noise_of) == 0


def test_what_is_known_is_not_fetched_again() -> None:
    cache, _ = full_cache()
    again = Experts()
    assert cache.fetch(EVERYTHING_TE, again, noise_of) == 0
    assert again.received == {}


def test_a_draw_gives_what_the_expert_said_at_the_snr_that_the_gate_sees() -> None:
    cache, _ = full_cache()
    item_B = torch.tensor([7, 0, 39, 7])
    snr_db_BE, answer_BE = cache.draw(item_B, np.random.default_rng(0))
    for row, item in enumerate(item_B.tolist()):
        for expert in range(EXPERTS):
            shown_db = float(snr_db_BE[row, expert])
            level = LEVELS - 1 if shown_db == 30 else SNR_LEVELS_DB.index(shown_db)
            expected = item + 100 * int(LABELS_T[item]) + 1000 * level + 10000 * expert
            assert float(answer_BE[row, expert]) == expected


def test_one_expert_of_each_image_is_the_asking_clients_own_clean_and_at_30_db() -> None:
    cache, _ = full_cache()
    snr_db_BE, answer_BE = cache.draw(torch.arange(ITEMS).repeat(100), np.random.default_rng(0))
    own_BE = snr_db_BE == 30
    assert (own_BE.sum(dim=1) == 1).all()
    assert ((answer_BE[own_BE] // 1000 % 10) == LEVELS - 1).all()
    # Any client may be the one that asks, not only the one that holds the image.
    np.testing.assert_allclose(own_BE.float().mean(dim=0), 1 / EXPERTS, atol=0.03)


def test_the_levels_of_the_other_links_are_equally_likely() -> None:
    snr_db_BE, _ = full_cache()[0].draw(torch.arange(ITEMS).repeat(100), np.random.default_rng(1))
    drawn = snr_db_BE[snr_db_BE != 30]
    for snr_db in SNR_LEVELS_DB:
        assert float((drawn == snr_db).float().mean()) == pytest.approx(1 / LEVELS, abs=0.02)


def test_a_gate_that_is_blind_to_the_channel_needs_the_clean_level_only() -> None:
    cache, experts = cache_of(CLEAN_DB), Experts()
    assert cache.fetch(EVERYTHING_TE, experts, noise_of) == ITEMS * (EXPERTS - 1) * (FEATURES + CLASSES) * 4
    assert all(torch.equal(received, features()) for received in experts.received.values())


def test_what_is_remembered_is_drawn_alike() -> None:
    cache, _ = full_cache()
    heir = cache_of()
    heir.remember(cache.memory())
    first, second = (each.draw(torch.arange(ITEMS), np.random.default_rng(3)) for each in (cache, heir))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert torch.equal(heir.known_TE, cache.known_TE)


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
    snr_db_TE, answer_TEC = answers_over_links(
        features_TF, [Power(e) for e in range(EXPERTS)], mean_snr_db, random
    )
    own_TE = snr_db_TE == 30
    assert (own_TE.sum(dim=1) == 1).all()
    linear = 10 ** (snr_db_TE[~own_TE] / 10)
    assert float(linear.mean()) == pytest.approx(10 ** (mean_snr_db / 10), rel=0.03)
    assert answer_TEC[0, :, 1].tolist() == [0, 1, 2, 3]
    assert (answer_TEC[:, :, 0][own_TE] == 1).all()
    power = answer_TEC[:, :, 0][~own_TE]
    good = linear > 1
    assert float((power[good] - 1 - 1 / linear[good]).mean()) == pytest.approx(0, abs=0.01)
