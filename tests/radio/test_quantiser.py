"""The quantiser: its levels, their bits, and what a wrong bit costs."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from airmoe.radio.quantiser import clip_range, dequantise, from_bits, quantise, step, to_bits

every_bits = pytest.mark.parametrize("bits", range(1, 9))


def levels(bits: int) -> torch.Tensor:
    """All levels, (1, 2^bits)."""
    return torch.arange(2**bits).to(torch.uint8).unsqueeze(0)


def test_levels_lie_in_the_middle_of_equal_steps() -> None:
    for bits, shares in ((1, [-0.5, 0.5]), (2, [-0.75, -0.25, 0.25, 0.75])):
        (level_D,) = dequantise(levels(bits), bits, torch.float64).tolist()
        assert level_D == pytest.approx([clip_range(bits) * share for share in shares])


def gaussian_error(clip: float, bits: int) -> float:
    """The mean square error for N(0, 1) if the range is [-clip, clip], from the normal distribution."""
    edges = np.linspace(-clip, clip, 2**bits + 1)
    level_L = (edges[1:] + edges[:-1]) / 2
    edges[[0, -1]] = -np.inf, np.inf  # what is clipped goes to the outer levels
    share_L, first_moment_L = np.diff(stats.norm.cdf(edges)), -np.diff(stats.norm.pdf(edges))
    return float(1 - 2 * level_L @ first_moment_L + level_L**2 @ share_L)


@every_bits
def test_the_range_is_the_best_one_for_a_gaussian(bits: int) -> None:
    best = optimize.minimize_scalar(
        gaussian_error, bounds=(1, 5), args=(bits,), method="bounded", options={"xatol": 1e-9}
    )
    assert clip_range(bits) == pytest.approx(best.x, abs=6e-5)
    assert gaussian_error(clip_range(bits), bits) == pytest.approx(best.fun, rel=1e-6)


@pytest.mark.parametrize(("bits", "error", "at_three"), [(1, 0.364, 0.855), (2, 0.119, 0.190)])
def test_few_bits_err_far_less_than_over_three_deviations(bits: int, error: float, at_three: float) -> None:
    assert gaussian_error(clip_range(bits), bits) == pytest.approx(error, abs=1e-3)
    assert gaussian_error(3.0, bits) == pytest.approx(at_three, abs=2e-3)


@every_bits
def test_a_gaussian_payload_errs_as_the_formula_says(bits: int) -> None:
    value_PD = torch.randn(1, 200_000, dtype=torch.float64, generator=torch.Generator().manual_seed(bits))
    clipped_PD = value_PD.clamp(-clip_range(bits), clip_range(bits))
    error_PD = (dequantise(quantise(clipped_PD, bits), bits, torch.float64) - value_PD).square()
    deviation = error_PD.std().item() / error_PD.numel() ** 0.5
    assert error_PD.mean().item() == pytest.approx(gaussian_error(clip_range(bits), bits), abs=4 * deviation)


@every_bits
def test_the_nearest_level_is_taken(bits: int) -> None:
    value_PD = torch.linspace(-clip_range(bits), clip_range(bits), 4001, dtype=torch.float64).unsqueeze(0)
    error_PD = dequantise(quantise(value_PD, bits), bits, torch.float64) - value_PD
    assert error_PD.abs().max() <= step(bits) / 2 + 1e-12
    assert quantise(value_PD, bits).unique().tolist() == list(range(2**bits))


@given(share=st.floats(-1, 1), bits=st.integers(1, 8))
def test_a_level_is_its_own_nearest(share: float, bits: int) -> None:
    level_PD = quantise(torch.tensor([[share * clip_range(bits)]]), bits)
    assert quantise(dequantise(level_PD, bits, torch.float32), bits).item() == level_PD.item()


@pytest.mark.parametrize(("share", "level"), [(-1, 0), (1, 15), (-1e-3, 7), (1e-3, 8)])
def test_the_ends_and_the_middle(share: float, level: int) -> None:
    assert quantise(torch.tensor([[share * clip_range(4)]]), 4).item() == level


def test_bits_are_natural_binary_each_value_s_most_significant_first() -> None:
    assert to_bits(torch.tensor([[6, 15, 1]], dtype=torch.uint8), 4).tolist() == [
        [0, 1, 1, 0, 1, 1, 1, 1, 0, 0, 0, 1]
    ]


@every_bits
def test_bits_come_back_as_the_levels_they_were(bits: int) -> None:
    assert torch.equal(from_bits(to_bits(levels(bits), bits), bits), levels(bits))


@pytest.mark.parametrize("bits", range(1, 7))
def test_flipped_bits_add_the_closed_form_to_the_mean_square_error(bits: int) -> None:
    """Over all levels and all patterns of flips: p q^2 (4^b - 1) / 3."""
    p, sent = 0.07, to_bits(levels(bits), bits).view(-1, bits)
    excess = 0.0
    for pattern in itertools.product((0, 1), repeat=bits):
        probability = p ** sum(pattern) * (1 - p) ** (bits - sum(pattern))
        received = from_bits(sent ^ torch.tensor(pattern, dtype=torch.uint8), bits)
        error = dequantise(received, bits, torch.float64) - dequantise(levels(bits).T, bits, torch.float64)
        excess += probability * error.square().mean().item()
    assert excess == pytest.approx(p * step(bits) ** 2 * (4**bits - 1) / 3, rel=1e-9)
