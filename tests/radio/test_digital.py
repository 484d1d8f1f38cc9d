"""Digital transmission over the fast chain: quantiser, error rates, flips, price and gradient."""

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from airmoe.errors import InvalidInputError
from airmoe.radio import Analog, Digital, error_rates, fast_chain
from airmoe.radio.coding import interleaver
from airmoe.radio.error_rates import Curve
from airmoe.radio.quantiser import clip_range, dequantise, quantise, step, to_bits

GOOD_DB, SIDE_USES = 20.0, 64


def q(x: float) -> float:
    """The tail of the standard normal distribution."""
    return 0.5 * math.erfc(x / math.sqrt(2))


def at_unit_power(payload_P: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Centred values at unit power, the norm and the mean that undo it."""
    mean_P1 = payload_P.mean(dim=1, keepdim=True)
    norm_P1 = (payload_P - mean_P1).square().mean(dim=1, keepdim=True).sqrt()
    return (payload_P - mean_P1) / norm_P1, norm_P1, mean_P1


def flips(pairs: int, values: int, bits: int, modulation: str, code: str, snr_db: float) -> Tensor:
    """Which bits of random levels arrive wrong over the fast chain, (P, D, b)."""
    level_PD = torch.randint(2**bits, (pairs, values)).to(torch.uint8)
    received_PD = fast_chain.transmit(level_PD, bits, modulation, code, torch.full((pairs,), snr_db))
    return to_bits(level_PD ^ received_PD, bits).view(pairs, values, bits).bool()


def ldpc_rates(modulation: str, snr_db: float) -> tuple[float, float]:
    """The block-error rate, and the bit-error rate of failed blocks, as counted at an SNR of the grid."""
    table = error_rates.tables()["ldpc"][modulation]
    place = table["snr_db"].index(snr_db)
    return table["block"][place], table["bit_if_block"][place]


def expect_rate(wrong: Tensor, rate: float) -> None:
    """Independent events: their share is within a 99.9 % interval of the rate."""
    deviation = math.sqrt(rate * (1 - rate) / wrong.numel())
    assert wrong.double().mean().item() == pytest.approx(rate, abs=3.3 * deviation)


# Quantisation


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("code", ["none", "conv", "ldpc"])
def test_over_an_ideal_link_only_the_quantiser_s_error_is_left(bits: int, code: str) -> None:
    payload_P = torch.relu(torch.randn(6, 120, dtype=torch.float64)) * 7
    received_P = Digital(bits, code=code)(payload_P, torch.full((6,), torch.inf))
    value_PD, norm_P1, mean_P1 = at_unit_power(payload_P)
    level_PD = quantise(value_PD.clamp(-clip_range(bits), clip_range(bits)), bits)
    expected_P = dequantise(level_PD, bits, torch.float64) * norm_P1 + mean_P1
    torch.testing.assert_close(received_P, expected_P, rtol=0, atol=1e-6)


def test_values_beyond_the_range_are_clipped() -> None:
    payload_P = torch.zeros(1, 100)
    payload_P[0, 0] = 50.0  # the mean is 0.5, the deviation 4.97, and 50 lies 9.9 deviations above the mean
    received_P = Digital(8)(payload_P, torch.tensor([torch.inf]))
    deviation = (0.99 * 0.01) ** 0.5 * 50
    assert received_P[0, 0].item() == pytest.approx(3.9376 * deviation + 0.5, abs=step(8) * deviation)
    assert received_P[0, 1:].abs().max() <= step(8) * deviation


@pytest.mark.parametrize("mean", [0.0, 3.0, -100.0])
@pytest.mark.parametrize(("bits", "error"), [(1, 0.3634), (2, 0.1188), (4, 0.01154)])
def test_the_quantiser_fits_a_gaussian_payload_whatever_its_mean(
    mean: float, bits: int, error: float
) -> None:
    payload_P = torch.randn(50, 1000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    received_P = Digital(bits)(7 * payload_P + mean, torch.full((50,), torch.inf))
    measured = (received_P - 7 * payload_P - mean).square().mean().item() / 49
    assert measured == pytest.approx(error, rel=0.06)


def test_a_payload_of_equal_values_arrives_as_it_is() -> None:
    payload_P = torch.full((1, 30), 4.0)
    torch.testing.assert_close(Digital(1)(payload_P, torch.tensor([-3.0])), payload_P)


def test_what_arrives_scales_and_shifts_with_the_payload_s_norm() -> None:
    payload_P, snr_db_P = torch.randn(4, 30, dtype=torch.float64), torch.zeros(4)
    torch.manual_seed(0)
    received_P = Digital(3)(payload_P, snr_db_P)
    torch.manual_seed(0)
    large_P = Digital(3)(1e3 * payload_P, snr_db_P)
    torch.testing.assert_close(large_P, 1e3 * received_P, rtol=1e-7, atol=1e-5)


# Error rates


@pytest.mark.parametrize(("snr_db", "rate"), [(0, 0.1587), (5, 0.0377), (10, 0.00078)])
def test_qpsk_errs_at_q_of_the_root_of_the_snr(snr_db: float, rate: float) -> None:
    exact = q(10 ** (snr_db / 20))
    assert exact == pytest.approx(rate, rel=0.01)
    assert error_rates.uncoded(torch.tensor([snr_db]), "qpsk").item() == pytest.approx(exact, rel=1e-4)
    torch.manual_seed(0)
    expect_rate(flips(100, 2500, 4, "qpsk", "none", snr_db), exact)


def test_the_mean_over_rayleigh_fading_is_the_closed_form() -> None:
    """0.5 (1 - sqrt((g/2) / (1 + g/2))) at a mean of 5 dB: 0.1087."""
    torch.manual_seed(0)
    snr_db_P = 5 + 10 * torch.distributions.Exponential(1.0).sample((200_000,)).log10()
    assert error_rates.uncoded(snr_db_P, "qpsk").mean().item() == pytest.approx(0.1087, abs=6e-4)


@pytest.mark.parametrize("snr_db", [-torch.inf, -3.0, 8.0, 14.0, torch.inf])
def test_sixteen_qam_errs_less_in_signs_than_in_inner_or_outer(snr_db: float) -> None:
    x = math.sqrt(10 ** (snr_db / 10) / 5)
    signs, inner_or_outer = (q(x) + q(3 * x)) / 2, (2 * q(x) + q(3 * x) - q(5 * x)) / 2
    rate_PS = error_rates.uncoded(torch.tensor([snr_db]), "16qam")
    assert rate_PS[0].tolist() == pytest.approx([signs, inner_or_outer], rel=1e-4, abs=1e-9)
    torch.manual_seed(0)
    wrong_PB = flips(100, 1001, 3, "16qam", "none", snr_db).flatten(1)[:, interleaver(3003)]
    whole_PS = wrong_PB[:, :3000].unflatten(1, (-1, 4))
    expect_rate(whole_PS[:, :, :2], signs)
    expect_rate(whole_PS[:, :, 2:], inner_or_outer)
    expect_rate(wrong_PB[:, 3000:3002], signs)
    expect_rate(wrong_PB[:, 3002:], inner_or_outer)


def test_a_rate_is_interpolated_in_its_logarithm_held_below_and_zero_above() -> None:
    curve = Curve([-2.0, 0.0, 1.0, 2.0], [0.4, 0.1, 0.025, 0.0])
    snr_db_P = torch.tensor([-torch.inf, -9.0, -2.0, -1.0, 0.0, 0.5, 1.0, 1.001, 2.0, torch.inf])
    expected = [0.4, 0.4, 0.4, 0.2, 0.1, 0.05, 0.025, 0, 0, 0]
    torch.testing.assert_close(curve(snr_db_P), torch.tensor(expected))


@pytest.mark.parametrize("modulation", ["qpsk", "16qam"])
def test_the_tables_reach_from_all_wrong_to_nothing_wrong(modulation: str) -> None:
    for bits in (40, 512, 5000):
        worst, best = error_rates.convolutional(modulation, bits).bit(torch.tensor([-torch.inf, 20.0]))
        assert worst.item() == pytest.approx(0.5, abs=0.02)
        assert best == 0
    assert error_rates.ldpc(modulation).block(torch.tensor([-torch.inf, 20.0])).tolist() == [1, 0]
    torch.manual_seed(0)
    for code, rate in (("conv", 0.5), ("ldpc", 0.47)):
        wrong = flips(100, 512, 4, modulation, code, -torch.inf)
        assert wrong.double().mean().item() == pytest.approx(rate, abs=0.02)
        assert not flips(100, 512, 4, modulation, code, 20.0).any()


def test_a_convolutional_codeword_s_ends_count_less_the_longer_it_is() -> None:
    """At 4 dB nearly all errors are in the last bits: their number does not depend on the length."""
    at_4_db = torch.tensor([4.0])
    wrong = [error_rates.convolutional("qpsk", bits).bit(at_4_db).item() * bits for bits in (128, 1024)]
    assert wrong[1] == pytest.approx(wrong[0], rel=0.1)


# Flips


@pytest.mark.parametrize("rate_db", [-10.0, 0.0, 5.0])
def test_bits_of_a_value_flip_independently(rate_db: float) -> None:
    torch.manual_seed(0)
    wrong_PDb = flips(50, 2000, 3, "qpsk", "none", rate_db)
    pattern = (wrong_PDb * torch.tensor([4, 2, 1])).sum(dim=-1).flatten()
    p = q(10 ** (rate_db / 20))
    expected = [p ** n.bit_count() * (1 - p) ** (3 - n.bit_count()) * pattern.numel() for n in range(8)]
    assert stats.chisquare(torch.bincount(pattern, minlength=8).numpy(), expected).pvalue > 1e-3


def test_without_a_code_the_number_of_flips_in_a_payload_is_binomial() -> None:
    torch.manual_seed(0)
    count_P = flips(20_000, 20, 1, "qpsk", "none", 0.5).sum(dim=(1, 2))
    expected = stats.binom.pmf(range(21), 20, q(10**0.025)) * len(count_P)
    many = expected > 5
    observed = torch.bincount(count_P, minlength=21).numpy()
    observed, expected = [[*x[many], x[~many].sum()] for x in (observed, expected)]
    assert stats.chisquare(observed, expected).pvalue > 1e-3


@pytest.mark.parametrize("snr_db", [-1.0, 0.6, 2.0, 3.0])
@pytest.mark.parametrize("values", [16, 400])
def test_convolutional_flips_have_their_rate_and_come_together(snr_db: float, values: int) -> None:
    """A payload is free of errors if it has no event: exp(-events)."""
    torch.manual_seed(0)
    pairs, bits = 4000, 4 * values
    wrong_PB = flips(pairs, values, 4, "qpsk", "conv", snr_db).flatten(1)
    rate, burst = (curve(torch.tensor([snr_db])).item() for curve in error_rates.convolutional("qpsk", bits))
    rate_P = wrong_PB.double().mean(dim=1)
    assert rate_P.mean().item() == pytest.approx(rate, abs=3.3 * rate_P.std().item() / math.sqrt(pairs))
    expect_rate(wrong_PB.any(dim=1), 1 - (1 - rate) ** (1 + (bits - 1) / burst))
    assert 3 < burst < 15


def test_a_link_without_gain_flips_half_of_the_bits() -> None:
    torch.manual_seed(0)
    expect_rate(flips(20, 2000, 8, "qpsk", "none", -torch.inf), 0.5)


@pytest.mark.parametrize("snr_db", [-2.0, 0.5, 1.5])
def test_ldpc_blocks_fail_as_a_whole_and_their_bits_flip(snr_db: float) -> None:
    """Payloads of 1,500 bits in three blocks."""
    torch.manual_seed(0)
    wrong_PB = flips(2000, 300, 5, "qpsk", "ldpc", snr_db).flatten(1)
    filled_PB = torch.nn.functional.pad(wrong_PB, (0, 36))
    wrong_PSB = filled_PB[:, interleaver(1536)].view(2000, 3, 512)
    failed_PS = wrong_PSB.any(dim=2)
    block, bit_if_block = ldpc_rates("qpsk", snr_db)
    assert failed_PS.double().mean().item() == pytest.approx(block, rel=0.1)
    rate_F = wrong_PSB[failed_PS].double().mean(dim=1) * (1536 / 1500)
    deviation = rate_F.std().item() / math.sqrt(len(rate_F))
    assert rate_F.mean().item() == pytest.approx(bit_if_block, abs=3.3 * deviation)


def test_a_symmetric_channel_of_the_same_mean_rate_would_break_nearly_every_ldpc_block() -> None:
    """Which is why blocks fail as a whole: at 1.5 dB 8 % of them, not nine tenths."""
    block, bit_if_block = ldpc_rates("qpsk", 1.5)
    assert block == pytest.approx(0.08, abs=0.015)
    assert 1 - (1 - block * bit_if_block) ** 512 > 0.8
    torch.manual_seed(0)
    expect_rate(flips(4000, 64, 8, "qpsk", "ldpc", 1.5).flatten(1).any(dim=1), block)


def test_the_interleaver_is_a_permutation_that_never_changes() -> None:
    order = interleaver(1024)
    assert sorted(order.tolist()) == list(range(1024))
    interleaver.cache_clear()
    assert torch.equal(interleaver(1024), order)


# Price


@pytest.mark.parametrize(
    "digital",
    [Digital(2, "16qam", "none"), Digital(1, "qpsk", "none"), Digital(1, "16qam", "conv")],
    ids=lambda digital: digital.name,
)
@pytest.mark.parametrize("values", [400, 64, 16384])
def test_the_compared_modes_take_the_symbols_of_analog(digital: Digital, values: int) -> None:
    assert digital.channel_uses(values, GOOD_DB) - SIDE_USES == values / 2
    assert Analog().channel_uses(values, GOOD_DB) - 32 == values / 2


@pytest.mark.parametrize(
    ("digital", "values", "symbols"),
    [
        (Digital(4, "qpsk", "none"), 400, 800),
        (Digital(4, "qpsk", "conv"), 400, 1600),
        (Digital(8, "16qam", "conv"), 400, 1600),
        (Digital(1, "qpsk", "ldpc"), 400, 512),  # one block of 512 bits: 1,024 coded
        (Digital(4, "qpsk", "ldpc"), 400, 2048),  # 1,600 bits in four blocks
        (Digital(8, "16qam", "ldpc"), 64, 256),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_a_payload_takes_its_coded_bits_in_symbols_and_64_for_norm_and_mean(
    digital: Digital, values: int, symbols: float
) -> None:
    assert digital.channel_uses(values, GOOD_DB) == symbols + 64
    below_0_db = digital.channel_uses(values, [-5.0, -10.0]) - symbols
    assert below_0_db.tolist() == [162, 466]  # 64 bits at 0.396 and 0.1375 bit a symbol


# Gradient


@pytest.mark.parametrize("code", ["none", "conv", "ldpc"])
def test_the_gradient_takes_the_error_at_unit_power_as_a_constant_and_stops_where_it_clips(code: str) -> None:
    torch.manual_seed(0)
    payload_P = torch.randn(3, 50, dtype=torch.float64)
    payload_P[:, 0], payload_P[:, 1] = 40.0, -30.0
    payload_P.requires_grad_()
    weight_P = torch.randn(3, 50, dtype=torch.float64)
    received_P = Digital(4, code=code)(payload_P, torch.tensor([-3.0, 1.0, torch.inf]))
    (gradient_P,) = torch.autograd.grad((received_P * weight_P).sum(), payload_P)

    value_PD, norm_P1, mean_P1 = at_unit_power(payload_P)
    assert (value_PD.abs() > clip_range(4)).any(dim=1).all()
    at_receiver_PD = ((received_P - mean_P1) / norm_P1).detach()
    # Where a value is clipped the receiver's value depends on norm and mean alone.
    by_hand_PD = torch.where(
        value_PD.abs() > clip_range(4), at_receiver_PD, value_PD + (at_receiver_PD - value_PD).detach()
    )
    expected_P = by_hand_PD * norm_P1 + mean_P1
    (by_hand_P,) = torch.autograd.grad((expected_P * weight_P).sum(), payload_P)
    torch.testing.assert_close(gradient_P, by_hand_P, rtol=0, atol=1e-6)


def test_over_an_ideal_link_with_fine_levels_the_gradient_is_that_of_the_payload() -> None:
    payload_P, weight_P = torch.randn(5, 40, requires_grad=True), torch.randn(5, 40)
    received_P = Digital(8)(payload_P, torch.full((5,), torch.inf))
    (gradient_P,) = torch.autograd.grad((received_P * weight_P).sum(), payload_P)
    torch.testing.assert_close(gradient_P, weight_P, rtol=0, atol=0.02)


# What is refused


@pytest.mark.parametrize("bits", [0, 9, -1, 2.0, True, "4", None])
def test_a_value_has_one_to_eight_bits(bits: object) -> None:
    with pytest.raises(InvalidInputError, match="bits"):
        Digital(bits)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"modulation": "64qam"}, "modulation is '64qam'; expected one of qpsk, 16qam"),
        ({"code": "polar"}, "code is 'polar'; expected one of none, conv, ldpc"),
        ({"chain": "half"}, "chain is 'half'; expected one of fast, full"),
    ],
)
def test_an_unknown_name_is_refused_with_the_known_ones(options: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        Digital(4, **options)  # type: ignore[arg-type]
