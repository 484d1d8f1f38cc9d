"""Rayleigh block fading: its statistics, and that any slot can be had at any time."""

import numpy as np
import pytest
from scipy.special import exp1

from airmoe.errors import InvalidInputError
from airmoe.links import Ofdma, RayleighFading

RADIO = Ofdma(subcarriers=4000)


@pytest.fixture(scope="module")
def snr_L() -> np.ndarray:
    """80,000 linear SNRs of links between different nodes at a mean of 10 dB."""
    gain_NNM = RayleighFading(5, RADIO, mean_snr_db=10.0, seed=1).at(0).gain_NNM
    return gain_NNM[~np.eye(5, dtype=bool)].ravel() * RADIO.power_w / RADIO.noise_w


def test_mean_snr_is_the_one_asked_for(snr_L: np.ndarray) -> None:
    assert snr_L.mean() == pytest.approx(10.0, rel=0.02)  # standard error .35 %


def test_gains_are_exponentially_distributed(snr_L: np.ndarray) -> None:
    for quantile in (0.1, 0.5, 0.9):
        assert (snr_L < -10.0 * np.log(1 - quantile)).mean() == pytest.approx(quantile, abs=0.01)


def test_expected_loss_of_rate_is_that_of_a_rayleigh_channel(snr_L: np.ndarray) -> None:
    # Ergodic capacity e^(1/g) E1(1/g) / ln 2: 2.91 bit/s/Hz at 10 dB, log2(11) = 3.46 without fading.
    rate = RADIO.rate_bps(snr_L * RADIO.noise_w / RADIO.power_w).mean() / RADIO.subcarrier_hz
    assert rate == pytest.approx(np.exp(0.1) * exp1(0.1) / np.log(2), rel=0.01)


def test_links_and_subcarriers_fade_independently() -> None:
    gain_NNM = RayleighFading(3, RADIO, seed=2).at(0).gain_NNM
    there, back = gain_NNM[0, 1], gain_NNM[1, 0]
    assert abs(np.corrcoef(there, back)[0, 1]) < 0.06
    assert abs(np.corrcoef(there[:-1], there[1:])[0, 1]) < 0.06


def test_any_slot_can_be_had_in_any_order() -> None:
    forwards, backwards = RayleighFading(2, RADIO, seed=3), RayleighFading(2, RADIO, seed=3)
    first = [forwards.at(slot).gain_NNM for slot in (0, 1, 2)]
    second = [backwards.at(slot).gain_NNM for slot in (2, 1, 0)]
    for one, other in zip(first, reversed(second), strict=True):
        np.testing.assert_array_equal(one, other)


def test_another_slot_or_seed_is_another_draw() -> None:
    drawn = RayleighFading(2, RADIO, seed=3).at(0).gain_NNM
    assert (RayleighFading(2, RADIO, seed=3).at(1).gain_NNM != drawn).all()
    assert (RayleighFading(2, RADIO, seed=4).at(0).gain_NNM != drawn).all()


@pytest.mark.parametrize("wrong", [{"nodes": 0}, {"mean_snr_db": np.nan}, {"seed": -1}])
def test_a_wrong_parameter_is_named(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidInputError, match=next(iter(wrong))):
        RayleighFading(**{"nodes": 2, "radio": RADIO, **wrong})  # type: ignore[arg-type]


def test_slots_count_from_zero() -> None:
    with pytest.raises(InvalidInputError, match="slot is -1"):
        RayleighFading(2, RADIO).at(-1)
