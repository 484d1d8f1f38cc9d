"""Block fading, with and without correlation over the band: its statistics, and any slot at any time."""

import numpy as np
import pytest
from scipy.special import exp1

from airmoe.errors import InvalidInputError
from airmoe.links import MultipathFading, Ofdma, RayleighFading

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


TAPS, BAND = 8, Ofdma(subcarriers=64)


@pytest.fixture(scope="module")
def snr_LM() -> np.ndarray:
    """Linear SNRs on 64 subcarriers of 24,180 links between different nodes, 8 paths, at a mean of 10 dB."""
    gain_NNM = MultipathFading(156, BAND, TAPS, mean_snr_db=10.0, seed=1).at(0).gain_NNM
    return gain_NNM[~np.eye(156, dtype=bool)] * BAND.power_w / BAND.noise_w


def test_every_subcarrier_of_a_multipath_channel_has_the_mean_snr_asked_for(snr_LM: np.ndarray) -> None:
    np.testing.assert_allclose(snr_LM.mean(axis=0), 10.0, rtol=0.03)  # standard error .64 %


def test_each_subcarrier_of_a_multipath_channel_is_rayleigh_fading(snr_LM: np.ndarray) -> None:
    for quantile in (0.1, 0.5, 0.9):
        below = (snr_LM < -10.0 * np.log(1 - quantile)).mean()
        assert below == pytest.approx(quantile, abs=0.01)


def test_gains_correlate_over_frequency_as_the_delay_profile_says(snr_LM: np.ndarray) -> None:
    for apart in (1, 2, 4, 6, 8, 12, 31):
        # |sum of 8 unit phasors|^2 / 64, the Dirichlet kernel; 0 at multiples of M / taps = 8.
        closed = (np.sin(np.pi * TAPS * apart / 64) / (TAPS * np.sin(np.pi * apart / 64))) ** 2
        measured = [np.corrcoef(snr_LM[:, m], snr_LM[:, m + apart])[0, 1] for m in (0, 13, 32)]
        np.testing.assert_allclose(measured, closed, atol=0.03, err_msg=f"{apart} apart")


def test_links_of_a_multipath_channel_fade_independently(snr_LM: np.ndarray) -> None:
    assert abs(np.corrcoef(snr_LM[:-1, 0], snr_LM[1:, 0])[0, 1]) < 0.03
    gain_NNM = MultipathFading(156, BAND, seed=2).at(0).gain_NNM
    upper = np.triu_indices(156, 1)
    assert abs(np.corrcoef(gain_NNM[*upper, 0], gain_NNM.transpose(1, 0, 2)[*upper, 0])[0, 1]) < 0.04


def test_one_path_makes_the_band_flat() -> None:
    gain_NNM = MultipathFading(3, BAND, taps=1, seed=2).at(0).gain_NNM
    np.testing.assert_allclose(gain_NNM, np.repeat(gain_NNM[:, :, :1], 64, axis=2), rtol=1e-12)
    assert np.unique(gain_NNM[:, :, 0]).size == 9


def test_as_many_paths_as_subcarriers_leave_no_correlation() -> None:
    gain_NNM = MultipathFading(40, BAND, taps=64, seed=2).at(0).gain_NNM
    near = np.corrcoef(gain_NNM[:, :, :-1].ravel(), gain_NNM[:, :, 1:].ravel())[0, 1]
    assert abs(near) < 0.02


def test_any_slot_of_a_multipath_channel_can_be_had_in_any_order() -> None:
    forwards, backwards = MultipathFading(2, BAND, seed=3), MultipathFading(2, BAND, seed=3)
    first = [forwards.at(slot).gain_NNM for slot in (0, 1, 2)]
    second = [backwards.at(slot).gain_NNM for slot in (2, 1, 0)]
    for one, other in zip(first, reversed(second), strict=True):
        np.testing.assert_array_equal(one, other)
    assert (first[0] != first[1]).all()
    assert (MultipathFading(2, BAND, seed=4).at(0).gain_NNM != first[0]).all()


@pytest.mark.parametrize(
    "wrong", [{"nodes": 0}, {"taps": 0}, {"taps": 65}, {"taps": 2.5}, {"mean_snr_db": np.nan}, {"seed": -1}]
)
def test_a_wrong_parameter_of_a_multipath_channel_is_named(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidInputError, match=next(iter(wrong))):
        MultipathFading(**{"nodes": 2, "radio": BAND, **wrong})  # type: ignore[arg-type]
