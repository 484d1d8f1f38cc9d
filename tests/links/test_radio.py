"""The OFDMA radio: Shannon rates and what a bit costs."""

import numpy as np
import pytest

from airmoe.errors import InvalidInputError
from airmoe.links import Ofdma


def test_rate_is_the_shannon_rate() -> None:
    radio = Ofdma(subcarrier_hz=2e6, power_w=1.0, noise_w=0.5)
    # SNRs 0, 1, 3, 15 carry 0, 1, 2, 4 bits per second and hertz.
    rate_bps = radio.rate_bps([[0.0, 0.5], [1.5, 7.5]])
    np.testing.assert_allclose(rate_bps, [[0.0, 2e6], [4e6, 8e6]], rtol=1e-14)


def test_rate_keeps_its_precision_at_very_low_snr() -> None:
    radio = Ofdma(subcarrier_hz=1.0, power_w=1.0, noise_w=1.0)
    np.testing.assert_allclose(radio.rate_bps(1e-20), 1e-20 / np.log(2), rtol=1e-14)


def test_a_bit_costs_the_power_over_the_rate() -> None:
    radio = Ofdma(subcarrier_hz=2e6, power_w=0.25, noise_w=0.25)
    np.testing.assert_allclose(radio.energy_per_bit_j([1.0, 3.0]), [0.125e-6, 0.0625e-6], rtol=1e-14)


def test_a_bit_over_a_link_without_gain_costs_infinitely_much() -> None:
    assert Ofdma().energy_per_bit_j(0.0) == np.inf


def test_default_noise_is_thermal_noise_over_one_subcarrier() -> None:
    radio = Ofdma()
    assert radio.noise_w == pytest.approx(10 ** (-174 / 10) * 1e-3 * radio.subcarrier_hz, rel=1e-3)


@pytest.mark.parametrize("name", ["subcarrier_hz", "power_w", "noise_w"])
@pytest.mark.parametrize("value", [0.0, -1.0, np.inf, np.nan, "1", None, True])
def test_a_quantity_must_be_finite_and_positive(name: str, value: object) -> None:
    with pytest.raises(InvalidInputError, match=f"{name} is .*; expected a finite number above 0"):
        Ofdma(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0, -1, 1.5, "8", True])
def test_subcarriers_must_be_a_positive_integer(value: object) -> None:
    with pytest.raises(InvalidInputError, match=r"subcarriers is .*; expected an integer of at least 1"):
        Ofdma(subcarriers=value)  # type: ignore[arg-type]
