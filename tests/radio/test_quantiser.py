"""The quantiser: its levels, their bits, and what a wrong bit costs."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from airmoe.radio.quantiser import CLIP, dequantise, from_bits, quantise, step, to_bits

every_bits = pytest.mark.parametrize("bits", range(1, 9))


def levels(bits: int) -> torch.Tensor:
    """All levels, (1, 2^bits)."""
    return torch.arange(2**bits).to(torch.uint8).unsqueeze(0)


def test_levels_lie_in_the_middle_of_equal_steps() -> None:
    assert dequantise(levels(1), 1, torch.float32).tolist() == [[-1.5, 1.5]]
    assert dequantise(levels(2), 2, torch.float32).tolist() == [[-2.25, -0.75, 0.75, 2.25]]


@every_bits
def test_the_nearest_level_is_taken(bits: int) -> None:
    value_PD = torch.linspace(-CLIP, CLIP, 4001, dtype=torch.float64).unsqueeze(0)
    error_PD = dequantise(quantise(value_PD, bits), bits, torch.float64) - value_PD
    assert error_PD.abs().max() <= step(bits) / 2 + 1e-12
    assert quantise(value_PD, bits).unique().tolist() == list(range(2**bits))


@given(value=st.floats(-CLIP, CLIP, width=32), bits=st.integers(1, 8))
def test_a_level_is_its_own_nearest(value: float, bits: int) -> None:
    level_PD = quantise(torch.tensor([[value]]), bits)
    assert quantise(dequantise(level_PD, bits, torch.float32), bits).item() == level_PD.item()


@pytest.mark.parametrize(("value", "level"), [(-CLIP, 0), (CLIP, 15), (-1e-3, 7), (1e-3, 8)])
def test_the_ends_and_the_middle(value: float, level: int) -> None:
    assert quantise(torch.tensor([[value]]), 4).item() == level


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
