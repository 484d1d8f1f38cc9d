"""The worth of a link, from sums."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from airmoe.networked.answers import SNR_LEVELS_DB
from airmoe.networked.link_sums import change_by_level, fit_link_worth, link_sums
from airmoe.nn.channel_gates import LinkWorth

LEVELS = len(SNR_LEVELS_DB)


def worth_at(worth: LinkWorth, *snr_db: float) -> list[float]:
    """Worth of links, from that of a good one."""
    code = (torch.tensor([*snr_db, 30.0]).clamp(-10, 30) - 10) / 10
    with torch.no_grad():
        worth_V = worth(code)
    return (worth_V[:-1] - worth_V[-1]).tolist()


def test_the_change_is_a_mean_weighted_by_what_clean_features_get() -> None:
    random = np.random.default_rng(0)
    true_TEL = torch.from_numpy(random.random((30, 4, LEVELS)))
    changes = change_by_level(link_sums(true_TEL)["links"], true_TEL[:, :, -1].sum(dim=0)).numpy()
    clean = true_TEL[:, :, -1].numpy().ravel()
    for level in range(LEVELS):
        lost = true_TEL[:, :, level].numpy().ravel() - clean
        assert changes[level] == pytest.approx(np.average(lost, weights=clean))
    assert changes[-1] == 0


def test_sums_of_two_parts_are_those_of_the_whole() -> None:
    true_TEL = torch.from_numpy(np.random.default_rng(1).random((30, 4, LEVELS)))
    parts = link_sums(true_TEL[:11])["links"] + link_sums(true_TEL[11:])["links"]
    torch.testing.assert_close(parts, link_sums(true_TEL)["links"], rtol=1e-12, atol=0)


def test_the_worth_at_the_levels_is_what_was_asked_for() -> None:
    worth = LinkWorth()
    fit_link_worth(worth, torch.tensor([-9.0, -7.0, -4.0, -2.0, -1.0, -0.5, 0.0]))
    # A gate cannot tell -15 dB from -10 dB: both count as -8.
    assert worth_at(worth, -15, -10, -5, 0, 5, 15) == pytest.approx([-8, -8, -4, -2, -1, -0.5], abs=0.25)


def test_where_no_level_costs_anything_a_link_is_worth_nothing() -> None:
    worth = LinkWorth()
    fit_link_worth(worth, torch.zeros(LEVELS))
    assert worth_at(worth, -10, 0, 10) == pytest.approx([0, 0, 0], abs=1e-2)


@given(st.lists(st.floats(-30, 30), min_size=LEVELS, max_size=LEVELS))
def test_it_never_falls_whatever_the_levels_say(logits: list[float]) -> None:
    worth = LinkWorth()
    fit_link_worth(worth, torch.tensor(logits))
    every = worth_at(worth, *np.linspace(-20, 40, 50))
    assert every == sorted(every)
    assert np.isfinite(every).all()
