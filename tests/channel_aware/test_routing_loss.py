"""The loss of gate and experts, beside sums by hand."""

import math

import pytest
import torch
from torch import Tensor

from airmoe.channel_aware.routing_loss import RoutingLoss, routing_loss
from airmoe.nn import MoeOutput

CLASS_0 = torch.zeros(2, dtype=torch.int64)


def output_of(weights: Tensor, given: Tensor, load: Tensor | None = None) -> MoeOutput:
    """A mixture of experts of which each gives class 0 of each item the probability ``given`` (T, E)."""
    answers_TEC = torch.stack([given, 1 - given], dim=2)
    scores = torch.full_like(weights, 0.5)  # not looked at
    return MoeOutput((weights.unsqueeze(2) * answers_TEC).sum(dim=1), scores, load, weights, None)


def loss_of(output: MoeOutput, labels_T: Tensor, balance: float) -> RoutingLoss:
    """The loss of a batch, with one expert per item where every item has one weight above 0."""
    one = bool(((output.weights_TE > 0).sum(dim=1) == 1).all())
    return routing_loss(output, labels_T, balance, one_expert=one)


def two_experts(load: Tensor | None = None) -> MoeOutput:
    """Two of two experts per item: class 0 is given 0.75 x 0.2 + 0.25 x 0.6 = 0.3, and 0.9."""
    weights = torch.tensor([[0.75, 0.25], [0.5, 0.5]])
    return output_of(weights, torch.tensor([[0.2, 0.6], [0.9, 0.9]]), load)


def one_expert(load: Tensor | None = None) -> MoeOutput:
    """One of two experts per item, with its score as it is: the first gives class 0 0.2, the second 0.8."""
    weights = torch.tensor([[0.6, 0.0], [0.0, 0.7]])
    return output_of(weights, torch.tensor([[0.2, 0.5], [0.5, 0.8]]), load)


def test_of_two_experts_it_is_the_negative_log_of_what_the_mixture_gives_the_true_class() -> None:
    loss = loss_of(two_experts(), CLASS_0, 0.0)
    assert float(loss.nll) == pytest.approx(-(math.log(0.3) + math.log(0.9)) / 2)
    assert float(loss.total) == pytest.approx(float(loss.nll))


def test_the_true_class_is_that_of_the_label() -> None:
    loss = loss_of(two_experts(), torch.tensor([1, 0]), 0.0)
    assert float(loss.nll) == pytest.approx(-(math.log(0.7) + math.log(0.9)) / 2)


def test_of_one_expert_a_second_term_compares_it_with_the_batch() -> None:
    # p = 0.2 and 0.8 whatever their scores are, b = 0.5; G p + (1 - G) b = 0.32 and 0.71.
    loss = loss_of(one_expert(), CLASS_0, 0.0)
    assert float(loss.nll) == pytest.approx(-(math.log(0.2) + math.log(0.8)) / 2)
    assert float(loss.total) == pytest.approx(float(loss.nll) - (math.log(0.32) + math.log(0.71)) / 2)


@pytest.mark.parametrize("output", [one_expert(), two_experts()], ids=["one expert", "two experts"])
def test_collapse_costs_by_the_batch_mean_of_the_weights(output: MoeOutput) -> None:
    free, charged = (loss_of(output, CLASS_0, balance) for balance in (0.0, 0.3))
    assert float(charged.nll) == float(free.nll)
    first, second = output.weights_TE.mean(dim=0).tolist()
    variation = ((first - second) / (first + second)) ** 2  # CV^2 of two numbers
    assert variation > 0.001
    assert float(charged.total - free.total) == pytest.approx(0.3 * variation, rel=1e-4)


@pytest.mark.parametrize("make", [one_expert, two_experts])
def test_the_load_of_a_noisy_gate_counts_as_much_as_the_weights(make: type) -> None:
    # Batch mean (0.6, 0.2): var 0.04 over mean^2 0.16.
    load = torch.tensor([[0.9, 0.1], [0.3, 0.3]])
    without, with_load = (loss_of(make(load), CLASS_0, 0.3).total for load in (None, load))
    assert float(with_load - without) == pytest.approx(0.3 * 0.25, rel=1e-4)


def test_an_item_may_be_decided_as_long_as_the_batch_is_not() -> None:
    output = output_of(torch.eye(2), torch.full((2, 2), 0.5))
    assert float(loss_of(output, CLASS_0, 1e6).total) == pytest.approx(2 * math.log(2))


def gradients(weights: Tensor, given: Tensor) -> tuple[RoutingLoss, Tensor, Tensor]:
    weights, given = weights.clone().requires_grad_(), given.clone().requires_grad_()
    loss = loss_of(output_of(weights, given), CLASS_0, 0.0)
    loss.total.backward()
    assert weights.grad is not None
    assert given.grad is not None
    return loss, weights.grad, given.grad


def test_of_one_expert_the_score_is_taught_by_how_much_better_than_the_batch_it_is() -> None:
    _, of_weights, _ = gradients(torch.diag(torch.tensor([0.6, 0.7])), torch.tensor([[0.2, 0.5], [0.5, 0.8]]))
    # d/dG of -log(G p + (1 - G) b) / T is -(p - b) / (G p + (1 - G) b) / T.
    assert float(of_weights[0, 0]) == pytest.approx(0.3 / 0.32 / 2)
    assert float(of_weights[1, 1]) == pytest.approx(-0.3 / 0.71 / 2)


def test_of_one_expert_the_expert_is_taught_as_if_it_were_alone() -> None:
    # Whatever its score: else an expert that is seldom liked would learn little.
    given = torch.tensor([[0.2, 0.5], [0.5, 0.8]])
    for scores in ([0.6, 0.7], [0.01, 1.0]):
        _, _, of_experts = gradients(torch.diag(torch.tensor(scores)), given)
        assert of_experts.diagonal().tolist() == pytest.approx([-1 / 0.2 / 2, -1 / 0.8 / 2])


@pytest.mark.parametrize("weights", [torch.eye(2), torch.full((2, 2), 0.5)], ids=["one expert", "two"])
def test_a_true_class_that_is_given_nothing_costs_much_and_not_infinitely_much(weights: Tensor) -> None:
    loss = loss_of(output_of(weights, torch.zeros(2, 2)), CLASS_0, 0.3)
    assert float(loss.nll) == pytest.approx(-math.log(1e-12))
    assert math.isfinite(float(loss.total))


def test_a_weight_that_underflows_does_not_make_it_one_expert() -> None:
    output = output_of(torch.tensor([[1.0, 0.0], [0.5, 0.5]]), torch.tensor([[0.2, 0.6], [0.9, 0.9]]))
    loss = routing_loss(output, CLASS_0, 0.0, one_expert=False)
    assert float(loss.total) == pytest.approx(float(loss.nll))


@pytest.mark.parametrize("place", ["weights", "given"])
def test_what_is_no_number_stays_none(place: str) -> None:
    tensors = {"weights": torch.eye(2), "given": torch.full((2, 2), 0.5)}
    tensors[place][0, 0] = math.nan
    loss = loss_of(output_of(**tensors), CLASS_0, 0.0)
    assert math.isnan(float(loss.nll + 0 * loss.total))
