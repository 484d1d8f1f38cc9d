"""The loss that makes experts overlap, beside sums by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from airmoe.channel_aware.expected_loss import expected_loss
from airmoe.dispatch import Delivery
from airmoe.nn import MoeOutput, balance_loss

LABELS_T = torch.tensor([0, 1])
ASKED_TE = torch.tensor([[True, True, False], [False, True, True]])


def output_of(weights_TE: Tensor, true_TE: Tensor) -> MoeOutput:
    """Two items, each asked of two of three experts: ``true_TE`` is what each gives the true class."""
    expert_P, item_P = np.nonzero(ASKED_TE.numpy().T)
    true_P = true_TE[item_P, expert_P]
    label_P = LABELS_T[item_P]
    output_PC = torch.where(torch.arange(2)[None] == label_P[:, None], true_P[:, None], 1 - true_P[:, None])
    y_TC = torch.zeros(2, 2).index_add(
        0, torch.from_numpy(item_P), weights_TE[item_P, expert_P, None] * output_PC
    )
    return MoeOutput(y_TC, weights_TE, None, weights_TE, None, Delivery(item_P, expert_P, output_PC))


def example() -> tuple[Tensor, Tensor]:
    weights_TE = torch.tensor([[0.75, 0.25, 0.0], [0.0, 0.5, 0.5]], requires_grad=True)
    true_TE = torch.tensor([[0.8, 0.5, 0.9], [0.9, 0.4, 0.2]], requires_grad=True)
    return weights_TE, true_TE


def test_the_gate_learns_the_loss_of_each_choice_and_the_experts_their_share() -> None:
    weights_TE, true_TE = example()
    expected_loss(output_of(weights_TE, true_TE), LABELS_T, 0.0, common=0.5).total.backward()
    loss_TE = -true_TE.detach().log()
    # Two items, so every derivative is halved; what was not asked has none.
    torch.testing.assert_close(weights_TE.grad, torch.where(ASKED_TE, loss_TE, 0.0) / 2)
    share_TE = torch.where(ASKED_TE, 0.5 * weights_TE.detach() + 0.5 / 2, 0.0)
    torch.testing.assert_close(true_TE.grad, -share_TE / true_TE.detach() / 2)


@given(st.floats(0, 1))
def test_its_value_is_the_mean_of_what_gate_and_experts_are_charged(common: float) -> None:
    weights_TE, true_TE = (each.detach() for each in example())
    loss = expected_loss(output_of(weights_TE, true_TE), LABELS_T, 0.0, common)
    loss_TE = -true_TE.log()
    by_gate = float((weights_TE * loss_TE).sum()) / 2
    alike = float(loss_TE[ASKED_TE].sum()) / 2 / 2
    assert float(loss.total) == pytest.approx((2 - common) * by_gate + common * alike, rel=1e-5)


def test_what_is_told_is_the_loss_of_the_mixed_answers() -> None:
    weights_TE, true_TE = (each.detach() for each in example())
    loss = expected_loss(output_of(weights_TE, true_TE), LABELS_T, 0.0, common=0.5)
    mixed = 0.75 * 0.8 + 0.25 * 0.5, 0.5 * 0.4 + 0.5 * 0.2
    assert float(loss.nll) == pytest.approx(-(math.log(mixed[0]) + math.log(mixed[1])) / 2)


def test_collapse_costs_by_the_batch_mean_of_the_weights() -> None:
    weights_TE, true_TE = (each.detach() for each in example())
    output = output_of(weights_TE, true_TE)
    free, charged = (expected_loss(output, LABELS_T, balance, 0.5).total for balance in (0.0, 2.0))
    assert float(charged - free) == pytest.approx(2 * float(balance_loss(weights_TE)), rel=1e-5)


def test_an_answer_that_denies_the_true_class_costs_a_finite_loss() -> None:
    weights_TE, _ = (each.detach() for each in example())
    assert expected_loss(output_of(weights_TE, torch.zeros(2, 3)), LABELS_T, 0.0, 0.5).total.isfinite()
