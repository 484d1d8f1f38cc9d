"""Weights are finite, or the first that is not is named."""

import math

import pytest
import torch

from airmoe.runs.weights import not_finite

FLOATING = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64]


@pytest.mark.parametrize("dtype", FLOATING)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 500, 999])
def test_one_value_that_is_not_finite_is_found(dtype: torch.dtype, bad: float, place: int) -> None:
    spoilt = torch.ones(1000, dtype=dtype)
    spoilt[place] = bad
    assert not_finite({"good": torch.ones(3), "spoilt": spoilt}) == "spoilt"


@pytest.mark.parametrize("dtype", FLOATING)
def test_finite_values_whose_sum_overflows_are_finite(dtype: torch.dtype) -> None:
    real = torch.float32 if dtype.is_complex else dtype
    assert not_finite({"w": torch.full((1000,), torch.finfo(real).max, dtype=real).to(dtype)}) == ""


def test_infinities_that_cancel_are_not_finite() -> None:
    assert not_finite({"w": torch.tensor([math.inf, -math.inf])}) == "w"


def test_numbers_of_eight_bits_are_looked_at_too() -> None:
    small = torch.tensor([1.0, 448.0]).to(torch.float8_e4m3fn)
    assert not_finite({"w": small}) == ""
    assert not_finite({"w": torch.tensor([1.0, math.nan]).to(torch.float8_e4m3fn)}) == "w"


def test_what_holds_no_floating_value_is_finite() -> None:
    tensors = {"none": torch.zeros(0), "whole": torch.tensor([2**62, 2**62]), "told": torch.tensor(True)}
    assert not_finite({**tensors, "form": torch.empty(3, device="meta")}) == ""
