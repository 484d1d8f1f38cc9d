"""Tapped delay lines of TR 38.901: mean, bandwidth, speed, and nobody else's random numbers."""

import sys

import numpy as np
import pytest
from scipy.special import j0
from scipy.stats import kstest

from airmoe.errors import InvalidInputError, MissingExtraError
from airmoe.links import TdlSnr
from airmoe.links.tdl import band_mean_power


@pytest.fixture(scope="module", autouse=True)
def sionna() -> None:
    pytest.importorskip("sionna", reason="needs airmoe[train]")


def power_SL(slots: int, links: int, seed: int = 0, **settings: float) -> np.ndarray:
    """Linear SNR at a mean of 0 dB."""
    tdl = TdlSnr(**{"mean_db": 0.0, **settings})  # type: ignore[arg-type]
    return 10 ** (tdl.draw(slots, links, np.random.default_rng(seed)) / 10)


def test_random_numbers_of_pytorch_and_sionna_are_left_alone() -> None:
    # The first of this file: importing Sionna is a part of what must not disturb them.
    import torch

    torch.manual_seed(7)
    expected = torch.rand(3, generator=torch.Generator().manual_seed(7))
    TdlSnr().draw(2, 2, np.random.default_rng(0))
    assert torch.equal(torch.rand(3), expected)

    from sionna.phy import config

    before = config.torch_rng("cpu").get_state()
    TdlSnr().draw(2, 2, np.random.default_rng(1))
    assert torch.equal(config.torch_rng("cpu").get_state(), before)


@pytest.mark.parametrize("model", ["A", "B", "C", "D", "E"])
def test_the_mean_over_draws_is_the_mean_asked_for(model: str) -> None:
    snr_db_SL = TdlSnr(model, mean_db=13.0).draw(1, 3000, np.random.default_rng(1))
    power = 10 ** ((snr_db_SL - 13) / 10)
    assert abs(power.mean() - 1) < 4 * power.std() / np.sqrt(power.size)
    assert power.std() / np.sqrt(power.size) < 0.02


def test_a_single_subcarrier_is_rayleigh_fading_without_direct_path() -> None:
    assert kstest(power_SL(1, 3000, model="A", subcarriers=1)[0], "expon").pvalue > 0.01


def test_a_direct_path_steadies_the_snr() -> None:
    # TDL-D: 13.3 dB between the direct path and the rest of the first one; all of the rest is 10 % of it.
    assert power_SL(1, 3000, model="D", subcarriers=1).var() < 0.3


def test_a_wider_band_is_steadier() -> None:
    deviations = [power_SL(1, 1000, subcarriers=m).std() for m in (1, 16, 64)]
    assert deviations[0] > 1.2 * deviations[1] > 1.4 * deviations[2]


@pytest.mark.parametrize("speed_mps", [0.0, 3.0, 10.0, 30.0])
def test_correlation_over_slots_falls_with_speed_as_clarke_says(speed_mps: float) -> None:
    power = power_SL(3, 4000, speed_mps=speed_mps, subcarriers=1)
    for apart in (1, 2):
        closed = j0(2 * np.pi * speed_mps * 3.5e9 / 299_792_458 * 1e-3 * apart) ** 2
        assert np.corrcoef(power[0], power[apart])[0, 1] == pytest.approx(closed, abs=0.06)


def test_links_fade_independently() -> None:
    power = power_SL(1, 4000, subcarriers=1)[0]
    assert abs(np.corrcoef(power[:-1], power[1:])[0, 1]) < 0.06


def test_the_same_generator_draws_the_same_and_another_does_not() -> None:
    np.testing.assert_array_equal(power_SL(5, 3, seed=1), power_SL(5, 3, seed=1))
    assert (power_SL(5, 3, seed=1) != power_SL(5, 3, seed=2)).all()


def test_a_generator_goes_on_from_draw_to_draw() -> None:
    random, tdl = np.random.default_rng(0), TdlSnr()
    assert (tdl.draw(2, 2, random) != tdl.draw(2, 2, random)).all()


def test_many_links_are_drawn_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airmoe.links.tdl.MOST_AT_ONCE", 8)
    power = power_SL(4, 5)
    assert power.shape == (4, 5)
    assert np.unique(power).size == power.size


@pytest.mark.parametrize(("slots", "links"), [(0, 2), (1, 1), (3, 2)])
def test_a_draw_has_a_finite_number_for_every_slot_and_link(slots: int, links: int) -> None:
    snr_db_SL = TdlSnr().draw(slots, links, np.random.default_rng(0))
    assert snr_db_SL.shape == (slots, links)
    assert snr_db_SL.dtype == np.float64
    assert np.isfinite(snr_db_SL).all()


def test_the_band_mean_is_that_of_the_frequency_response() -> None:
    random = np.random.default_rng(0)
    gain_LSP = random.standard_normal((2, 3, 4)) + 1j * random.standard_normal((2, 3, 4))
    delay_s_P = np.array([0.0, 0.3e-6, 0.31e-6, 2e-6])
    response = np.zeros((16, 2, 3), dtype=complex)
    for m in range(16):
        for path, delay_s in enumerate(delay_s_P):
            response[m] += gain_LSP[..., path] * np.exp(-2j * np.pi * m * 1e5 * delay_s)
    expected = (np.abs(response) ** 2).mean(axis=0)
    np.testing.assert_allclose(band_mean_power(gain_LSP, delay_s_P, 16, 1e5), expected, rtol=1e-12)


def test_paths_a_symbol_apart_add_their_powers() -> None:
    power = band_mean_power(np.array([[[3.0, 4j]]]), np.array([0.0, 1 / 64e6]), 64, 1e6)
    np.testing.assert_allclose(power, 9 + 16, rtol=1e-12)


def test_without_sionna_the_extra_to_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sionna", None)
    with pytest.raises(MissingExtraError, match=r"pip install .*\[train\]"):
        TdlSnr().draw(1, 1, np.random.default_rng(0))


@pytest.mark.parametrize(
    "wrong",
    [
        {"model": "F"},
        {"mean_db": np.nan},
        {"speed_mps": -1},
        {"delay_spread_s": -1e-9},
        {"carrier_hz": 3.5},
        {"slot_s": 0},
        {"subcarriers": 0},
        {"subcarrier_hz": np.inf},
    ],
)
def test_a_wrong_parameter_is_named(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError, match=f"^{next(iter(wrong))} is"):
        TdlSnr(**wrong)  # type: ignore[arg-type]
