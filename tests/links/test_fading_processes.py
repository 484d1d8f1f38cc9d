"""Small-scale fading: distributions and correlations against their closed forms."""

import numpy as np
import pytest
from scipy.special import erfc, j0
from scipy.stats import kstest

from airmoe.errors import InvalidInputError
from airmoe.links import GaussMarkovSnr, JakesSnr, RayleighSnr, RicianSnr, SnrProcess
from airmoe.links.fading_processes import faded_db

LINKS = 20_000


def power_SL(process: SnrProcess, slots: int, seed: int = 0, links: int = LINKS) -> np.ndarray:
    """Linear SNR of a process whose mean is 0 dB: |h|^2."""
    return 10 ** (process.draw(slots, links, np.random.default_rng(seed)) / 10)


def correlation(power_SL: np.ndarray, apart: int) -> float:
    """Correlation of |h|^2 with itself so many slots later, over links and slots."""
    earlier, later = power_SL[: len(power_SL) - apart], power_SL[apart:]
    return float(np.corrcoef(earlier.ravel(), later.ravel())[0, 1])


@pytest.mark.parametrize(("mean_db", "closed"), [(0, 0.2113), (5, 0.1087), (10, 0.0436)])
@pytest.mark.parametrize("process", [RayleighSnr, lambda mean_db: GaussMarkovSnr(mean_db, 0.3)])
def test_qpsk_over_rayleigh_fading_has_the_error_rate_of_the_textbook(
    process: type[RayleighSnr], mean_db: float, closed: float
) -> None:
    # Q(sqrt(g)) averaged over g ~ Exp(mean G): 0.5 (1 - sqrt((G/2) / (1 + G/2))).
    snr_db = process(mean_db).draw(200, 2000, np.random.default_rng(1))
    error_rate = (0.5 * erfc(np.sqrt(10 ** (snr_db / 10) / 2))).mean()
    assert error_rate == pytest.approx(closed, abs=0.001)


def test_rayleigh_power_is_exponentially_distributed() -> None:
    assert kstest(power_SL(RayleighSnr(0), 1)[0], "expon").pvalue > 0.01


def test_block_fading_has_no_memory_and_links_are_independent() -> None:
    for process in (RayleighSnr(0), RicianSnr(0, 3), GaussMarkovSnr(0, 0)):
        power = power_SL(process, 2)
        assert abs(correlation(power, 1)) < 0.03
        assert abs(np.corrcoef(power[:, :-1].ravel(), power[:, 1:].ravel())[0, 1]) < 0.03


@pytest.mark.parametrize("k_db", [-100, -3, 0, 5, 10])
def test_rician_power_has_mean_one_and_the_variance_of_its_k_factor(k_db: float) -> None:
    power, k = power_SL(RicianSnr(0, k_db), 5), 10 ** (k_db / 10)
    assert power.mean() == pytest.approx(1, abs=0.015)
    assert power.var() == pytest.approx((1 + 2 * k) / (1 + k) ** 2, rel=0.05)


def test_rician_fading_without_direct_path_is_rayleigh_fading_and_with_nothing_else_is_none() -> None:
    assert kstest(power_SL(RicianSnr(0, -100), 1)[0], "expon").pvalue > 0.01
    np.testing.assert_allclose(power_SL(RicianSnr(0, 100), 1), 1, atol=1e-4)


@pytest.mark.parametrize("process", [GaussMarkovSnr(0, 0.9), JakesSnr(0, 0.05)])
def test_fading_with_memory_is_rayleigh_fading_in_every_slot(process: SnrProcess) -> None:
    power = power_SL(process, 10)
    for slot in (0, 1, 9):
        assert kstest(power[slot], "expon").pvalue > 0.01
        assert power[slot].mean() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("a", [0.5, 0.9, 0.99])
def test_gauss_markov_power_correlates_as_a_to_twice_the_lag(a: float) -> None:
    power = power_SL(GaussMarkovSnr(0, a), 11)
    for apart in (1, 2, 5, 10):
        assert correlation(power, apart) == pytest.approx(a ** (2 * apart), abs=0.02)


def test_full_correlation_freezes_a_link() -> None:
    power = power_SL(GaussMarkovSnr(0, 1), 5)
    np.testing.assert_allclose(power, power[:1].repeat(5, axis=0), rtol=1e-9)
    assert power[0].std() > 0.9


@pytest.mark.parametrize("doppler", [0.01, 0.05, 0.2])
def test_jakes_power_correlates_as_the_square_of_j0(doppler: float) -> None:
    power = power_SL(JakesSnr(0, doppler), 16, links=8000)
    for apart in (1, 2, 5, 8, 15):  # 1 / 64 is the error of the model
        closed = j0(2 * np.pi * doppler * apart) ** 2
        assert correlation(power, apart) == pytest.approx(closed, abs=1 / 64 + 0.02)


def test_without_doppler_a_link_stays_as_it_is() -> None:
    power = power_SL(JakesSnr(0, 0), 4)
    np.testing.assert_allclose(power, power[:1].repeat(4, axis=0), rtol=1e-9)


def test_the_variance_of_jakes_power_is_low_by_one_over_the_sinusoids() -> None:
    power = power_SL(JakesSnr(0, 0.1), 1, links=100_000)
    assert power.var() == pytest.approx(1 - 1 / 64, abs=0.03)


def test_the_mean_snr_is_that_of_the_linear_snr() -> None:
    for process in (RayleighSnr(13), RicianSnr(13, 5), GaussMarkovSnr(13, 0.2), JakesSnr(13, 0.3)):
        assert 10 * np.log10(power_SL(process, 5).mean()) == pytest.approx(13, abs=0.1)


def test_a_gain_of_nothing_is_still_a_finite_snr() -> None:
    np.testing.assert_allclose(faded_db(10, np.array([0.0, 1.0])), [-290, 10])


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        (RayleighSnr, {}, {"mean_db": np.nan}),
        (RicianSnr, {"k_db": 0}, {"mean_db": 301}),
        (RicianSnr, {"mean_db": 0}, {"k_db": np.inf}),
        (GaussMarkovSnr, {"correlation": 0}, {"mean_db": "1"}),
        (GaussMarkovSnr, {"mean_db": 0}, {"correlation": 1.01}),
        (GaussMarkovSnr, {"mean_db": 0}, {"correlation": -0.1}),
        (JakesSnr, {"doppler": 0}, {"mean_db": None}),
        (JakesSnr, {"mean_db": 0}, {"doppler": -1}),
    ],
)
def test_a_wrong_parameter_is_named(kind: type, right: dict[str, float], wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError, match=f"^{next(iter(wrong))} is"):
        kind(**right, **wrong)
