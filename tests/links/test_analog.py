"""Analog transmission in NumPy: its law in closed form, and the same law in PyTorch."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from airmoe.errors import InvalidInputError
from airmoe.links.analog import receive_analog

Receive = Callable[[NDArray[np.float32], NDArray[np.float64]], NDArray[np.float32]]


def in_numpy(payload_P: NDArray[np.float32], snr_db_P: NDArray[np.float64]) -> NDArray[np.float32]:
    return receive_analog(payload_P, snr_db_P, np.random.default_rng(11))


def in_pytorch(payload_P: NDArray[np.float32], snr_db_P: NDArray[np.float64]) -> NDArray[np.float32]:
    torch = pytest.importorskip("torch")
    from airmoe.radio import Analog

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        return np.asarray(Analog()(torch.from_numpy(payload_P), torch.from_numpy(snr_db_P).float()))


both = pytest.mark.parametrize("receive", [in_numpy, in_pytorch])


def payloads(pairs: int, *shape: int) -> NDArray[np.float32]:
    """Payloads whose strengths differ by a factor of 1000, and whose values are not centred."""
    rng = np.random.default_rng(1)
    strength_P = np.geomspace(0.03, 30, pairs).reshape(-1, *[1] * len(shape))
    return (strength_P * rng.exponential(1.0, (pairs, *shape))).astype(np.float32)


def relative_noise(received_P: NDArray[np.float32], payload_P: NDArray[np.float32]) -> NDArray[np.float64]:
    """Noise after the payload was scaled to unit power, (P, values)."""
    flat = payload_P.reshape(len(payload_P), -1).astype(np.float64)
    noise_PD = received_P.reshape(len(payload_P), -1) - flat
    return noise_PD / np.sqrt(np.square(flat).mean(axis=1, keepdims=True))


@both
@pytest.mark.parametrize("snr_db", [-20.0, -5.0, 0.0, 7.0, 20.0])
@pytest.mark.parametrize("shape", [(400,), (16, 5, 5), (20, 20)])
def test_noise_is_gaussian_of_the_power_that_the_snr_says_for_each_payload(
    receive: Receive, snr_db: float, shape: tuple[int, ...]
) -> None:
    payload_P = payloads(200, *shape)
    noise_PD = relative_noise(receive(payload_P, np.full(200, snr_db)), payload_P)
    std = 10 ** (-snr_db / 20)
    unit_PD = noise_PD / std
    draws = unit_PD.size  # 80,000: moments come with standard errors of sqrt(k / draws)
    assert abs(unit_PD.mean()) < 4 / np.sqrt(draws)
    assert unit_PD.var() == pytest.approx(1, abs=4 * np.sqrt(2 / draws))
    assert abs((unit_PD**3).mean()) < 4 * np.sqrt(15 / draws)
    assert (unit_PD**4).mean() == pytest.approx(3, abs=4 * np.sqrt(96 / draws))
    assert np.square(unit_PD).mean(axis=1) == pytest.approx(1, abs=5 * np.sqrt(2 / 400))
    assert abs((unit_PD[:, 1:] * unit_PD[:, :-1]).mean()) < 4 / np.sqrt(draws)


@both
def test_every_payload_meets_the_snr_of_its_own_link(receive: Receive) -> None:
    payload_P, snr_db_P = payloads(6, 40_000), np.array([-10.0, 0.0, 10.0, 20.0, 30.0, np.inf])
    power_P = np.square(relative_noise(receive(payload_P, snr_db_P), payload_P)).mean(axis=1)
    np.testing.assert_allclose(power_P[:-1], 10 ** (-snr_db_P[:-1] / 10), rtol=0.04)
    assert power_P[-1] == 0


@both
def test_without_noise_nothing_changes(receive: Receive) -> None:
    payload_P = payloads(5, 3, 4, 4)
    np.testing.assert_array_equal(receive(payload_P, np.full(5, np.inf)), payload_P)


@both
def test_a_link_without_gain_brings_noise_of_minus_40_db(receive: Receive) -> None:
    payload_P = payloads(4, 20_000)
    received_P = receive(payload_P, np.array([-np.inf, -1e9, -40.0, -40.0]))
    assert np.isfinite(received_P).all()
    power_P = np.square(relative_noise(received_P, payload_P)).mean(axis=1)
    np.testing.assert_allclose(power_P, 1e4, rtol=0.06)


@both
def test_a_payload_of_zeros_has_hardly_any_noise_and_no_nan(receive: Receive) -> None:
    received_P = receive(np.zeros((3, 50), np.float32), np.array([-5.0, 20.0, np.inf]))
    assert np.isfinite(received_P).all()
    assert np.abs(received_P).max() < 1e-7


@both
def test_no_payloads_are_no_error(receive: Receive) -> None:
    assert receive(np.empty((0, 7, 2), np.float32), np.empty(0)).shape == (0, 7, 2)


def test_float32_comes_back() -> None:
    assert in_numpy(payloads(2, 8), np.array([0.0, 10.0])).dtype == np.float32


def test_noise_is_that_of_the_generator() -> None:
    payload_P, snr_db_P = payloads(3, 50), np.array([0.0, 5.0, 10.0])
    random = np.random.default_rng(2)
    first, second = (receive_analog(payload_P, snr_db_P, random) for _ in range(2))
    again = receive_analog(payload_P, snr_db_P, np.random.default_rng(2))
    np.testing.assert_array_equal(first, again)
    assert not np.isclose(first, second).all()


@given(st.floats(-40, 60), st.floats(1e-3, 1e3))
def test_noise_grows_with_the_payload(snr_db: float, factor: float) -> None:
    payload_P = payloads(1, 64)
    scaled = in_numpy(payload_P * np.float32(factor), np.array([snr_db]))
    np.testing.assert_allclose(scaled, factor * in_numpy(payload_P, np.array([snr_db])), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("snr_db_P", "message"),
    [
        ([0.0, np.nan], r"snr_db_P\[1\] is nan; expected a number of dB, -inf or inf"),
        ([0.0], r"shape of snr_db_P is \(1,\); expected \(P,\) = \(2,\)"),
        ([[0.0, 0.0]], r"shape of snr_db_P is \(1, 2\)"),
        (["loud", "low"], "snr_db_P is"),
    ],
)
def test_an_snr_that_is_none_is_refused(snr_db_P: list[object], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        receive_analog(payloads(2, 8), snr_db_P, np.random.default_rng(0))  # type: ignore[arg-type]
