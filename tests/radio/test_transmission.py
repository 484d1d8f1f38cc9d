"""Analog transmission: the noise of its law, what it costs, and what every transmission refuses."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from airmoe.errors import InvalidInputError
from airmoe.radio import Analog, Digital, Transmission

EVERY = [Analog(), Analog(3), Digital(2), Digital(4, "16qam", "conv"), Digital(3, "qpsk", "ldpc")]
every_transmission = pytest.mark.parametrize("transmission", EVERY, ids=lambda t: t.name)


def unit_power(pairs: int, values: int) -> Tensor:
    """Payloads whose mean square is 1."""
    payload_P = torch.randn(pairs, values)
    return payload_P / payload_P.square().mean(dim=1, keepdim=True).sqrt()


def noise_power(received_P: Tensor, payload_P: Tensor) -> float:
    return (received_P - payload_P).double().square().mean().item()


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 5.0, 10.0])
def test_noise_has_its_power_in_every_real_dimension(snr_db: float) -> None:
    torch.manual_seed(0)
    payload_P = unit_power(100, 1000)
    noise_PD = Analog()(payload_P, torch.full((100,), snr_db)) - payload_P
    assert noise_power(noise_PD, torch.zeros(())) == pytest.approx(10 ** (-snr_db / 10), rel=0.02)
    normal = noise_PD.flatten() * 10 ** (snr_db / 20)
    assert stats.kstest(normal.numpy(), "norm").pvalue > 1e-3


def test_noise_is_as_strong_as_the_payload_at_0_db_whatever_the_norm() -> None:
    torch.manual_seed(0)
    payload_P = unit_power(3, 100_000) * torch.tensor([[1e-3], [1.0], [1e3]])
    ratio_P = (Analog()(payload_P, torch.zeros(3)) - payload_P).norm(dim=1) / payload_P.norm(dim=1)
    torch.testing.assert_close(ratio_P, torch.ones(3), rtol=0.02, atol=0)


@pytest.mark.parametrize("repeats", [2, 4, 10])
def test_sending_n_times_is_worth_10_log10_n_db(repeats: int) -> None:
    torch.manual_seed(0)
    payload_P = unit_power(100, 1000)
    repeated_P = Analog(repeats)(payload_P, torch.full((100,), 3.0))
    gain_db = -3.0 - 10 * math.log10(noise_power(repeated_P, payload_P))
    assert gain_db == pytest.approx(10 * math.log10(repeats), abs=0.05)


@every_transmission
def test_every_pair_has_the_snr_of_its_own_link(transmission: Transmission) -> None:
    torch.manual_seed(0)
    payload_P = unit_power(4, 2000)
    clean_P = transmission(payload_P, torch.full((4,), torch.inf))
    received_P = transmission(payload_P, torch.tensor([-20.0, torch.inf, 25.0, -20.0]))
    bad, ideal, good, bad_too = (received_P - clean_P).square().mean(dim=1).tolist()
    assert ideal == 0
    assert good < 0.01 < min(bad, bad_too)


def test_over_an_ideal_link_nothing_changes() -> None:
    payload_P = torch.randn(7, 3, 5, 5)
    assert torch.equal(Analog()(payload_P, torch.full((7,), torch.inf)), payload_P)


@every_transmission
def test_a_link_without_gain_brings_finite_noise(transmission: Transmission) -> None:
    payload_P = torch.randn(3, 40)
    received_P = transmission(payload_P, torch.full((3,), -torch.inf))
    assert received_P.isfinite().all()
    assert not torch.equal(received_P, payload_P)


@every_transmission
def test_a_payload_of_zeros_arrives_as_next_to_nothing(transmission: Transmission) -> None:
    received_P = transmission(torch.zeros(2, 6), torch.tensor([0.0, torch.inf]))
    assert received_P.abs().max() < 1e-6


@every_transmission
@pytest.mark.parametrize("shape", [(5, 12), (5, 4, 3, 3), (5, 7, 6), (0, 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_arrives_has_the_payload_s_shape_and_type(
    transmission: Transmission, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    received_P = transmission(torch.randn(shape, dtype=dtype), torch.full((shape[0],), 3.0))
    assert (received_P.shape, received_P.dtype) == (shape, dtype)


@every_transmission
def test_the_same_seed_gives_the_same_noise(transmission: Transmission) -> None:
    payload_P, snr_db_P = torch.randn(6, 50), torch.zeros(6)
    first, again, other = (
        (torch.manual_seed(seed), transmission(payload_P, snr_db_P))[1] for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@every_transmission
def test_an_snr_that_is_no_number_is_named(transmission: Transmission) -> None:
    with pytest.raises(InvalidInputError, match=r"snr_db\[1\] is nan; expected a number of dB"):
        transmission(torch.randn(3, 4), torch.tensor([0.0, torch.nan, torch.nan]))


@every_transmission
@pytest.mark.parametrize("shape", [(), (2,), (3, 1), (4,)])
def test_one_snr_for_each_pair_is_wanted(transmission: Transmission, shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInputError, match=r"shape of snr_db is .*; expected \(P,\) = \(3,\)"):
        transmission(torch.randn(3, 4), torch.zeros(shape))


@every_transmission
@pytest.mark.parametrize("payload_P", [torch.zeros(3, 0), torch.zeros(3, 4, dtype=torch.int64)])
def test_a_payload_of_nothing_or_of_whole_numbers_is_refused(
    transmission: Transmission, payload_P: Tensor
) -> None:
    with pytest.raises(InvalidInputError, match="expected floating-point values, at least one for each pair"):
        transmission(payload_P, torch.zeros(3))


def test_the_gradient_is_that_of_payload_and_noise() -> None:
    """With r = u + c ||u|| n: dr = du + c n d||u||."""
    torch.manual_seed(0)
    payload_P, weight_P = torch.randn(2, 2, 9, dtype=torch.float64)
    payload_P.requires_grad_()
    received_P = Analog()(payload_P, torch.tensor([0.0, torch.inf]))
    (gradient_P,) = torch.autograd.grad((received_P * weight_P).sum(), payload_P)
    noise_P, norm_P1 = (received_P - payload_P).detach(), payload_P.detach().norm(dim=1, keepdim=True)
    by_norm_P1 = (noise_P * weight_P).sum(dim=1, keepdim=True) / norm_P1
    torch.testing.assert_close(gradient_P, weight_P + by_norm_P1 * payload_P.detach() / norm_P1)
    assert torch.equal(gradient_P[1], weight_P[1])


@settings(deadline=None)
@given(values=st.integers(1, 10_000), repeats=st.integers(1, 9))
def test_analog_takes_half_a_symbol_for_each_value_and_time_and_the_norm_once(
    values: int, repeats: int
) -> None:
    uses = Analog(repeats).channel_uses(values, [[7.0, -5.0]])
    assert uses.tolist() == [[repeats * values / 2 + 32, repeats * values / 2 + 81]]


@pytest.mark.parametrize("repeats", [0, -1, 1.5, True, "2", None])
def test_repeats_are_a_whole_number_of_at_least_one(repeats: object) -> None:
    with pytest.raises(InvalidInputError, match="repeats"):
        Analog(repeats)  # type: ignore[arg-type]
