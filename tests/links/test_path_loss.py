"""Path loss and shadowing: where devices stand, and how long shadows last."""

import numpy as np
import pytest
from scipy.stats import kstest

from airmoe.errors import InvalidInputError
from airmoe.links import ShadowedPathLossSnr

LINKS = 20_000


def drawn(slots: int, seed: int = 0, **settings: float) -> np.ndarray:
    return ShadowedPathLossSnr(**settings).draw(slots, LINKS, np.random.default_rng(seed))


def test_devices_stand_uniformly_on_the_disc() -> None:
    snr_db_L = drawn(1, reference_snr_db=60, exponent=2, radius_m=300, reference_m=3, shadowing_db=0)[0]
    distance_m = 3 * 10 ** ((60 - snr_db_L) / 20)
    assert kstest((distance_m**2 - 3**2) / (300**2 - 3**2), "uniform").pvalue > 0.01


def test_the_mean_snr_is_that_of_the_disc() -> None:
    # E ln(d / d0) = R^2 ln(R / d0) / (R^2 - d0^2) - 1/2 for d^2 uniform from d0^2 to R^2.
    mean_log = 200**2 * np.log(200) / (200**2 - 1) - 0.5
    closed = 80 - 10 * 3.5 * mean_log / np.log(10)
    assert closed == pytest.approx(7.06, abs=0.01)  # what the docstring says of the defaults
    assert drawn(1).mean() == pytest.approx(closed, abs=0.3)


def test_no_device_is_below_the_snr_at_the_rim() -> None:
    snr_db_L = drawn(1, shadowing_db=0)
    assert snr_db_L.min() == pytest.approx(80 - 35 * np.log10(200), abs=0.01)
    assert snr_db_L.max() <= 80


def test_devices_stay_where_they_are() -> None:
    snr_db_SL = drawn(4, shadowing_db=0)
    np.testing.assert_array_equal(snr_db_SL, snr_db_SL[:1].repeat(4, axis=0))


def test_shadowing_is_normal_in_db_with_its_deviation_in_every_slot() -> None:
    shadowing_db = drawn(30, exponent=0, shadowing_db=6) - 80
    for slot in (0, 1, 29):
        assert kstest(shadowing_db[slot] / 6, "norm").pvalue > 0.01


@pytest.mark.parametrize("correlation", [0.0, 0.7, 0.95])
def test_shadowing_fades_out_exponentially(correlation: float) -> None:
    shadowing_db = drawn(11, exponent=0, correlation=correlation)
    for apart in (1, 3, 10):
        measured = np.corrcoef(shadowing_db[0], shadowing_db[apart])[0, 1]
        assert measured == pytest.approx(correlation**apart, abs=0.03)


def test_shadows_of_full_correlation_stay() -> None:
    snr_db_SL = drawn(3, correlation=1)
    np.testing.assert_allclose(snr_db_SL, snr_db_SL[:1].repeat(3, axis=0), atol=1e-9)


@pytest.mark.parametrize(
    "wrong",
    [
        {"reference_snr_db": np.nan},
        {"exponent": -1},
        {"radius_m": 1.0},
        {"radius_m": np.inf},
        {"shadowing_db": -1},
        {"correlation": 1.1},
        {"reference_m": 0},
    ],
)
def test_a_wrong_parameter_is_named(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidInputError, match=f"^{next(iter(wrong))} is"):
        ShadowedPathLossSnr(**wrong)
