"""Mixing weights, and the mixture of what arrived."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from airmoe.dispatch.loop import Delivery
from airmoe.mesh import client
from airmoe.mesh.client import mix
from airmoe.nn import combine, mixing_weights


def pairs(arrived_TE: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of a mask, sorted by expert."""
    expert_P, item_P = np.nonzero(arrived_TE.T)
    return item_P, expert_P


def test_none_leaves_the_scores_of_what_arrived() -> None:
    weights = mixing_weights(torch.tensor([[0.5, 0.3, 0.2]]), torch.tensor([[True, False, True]]), "none")
    torch.testing.assert_close(weights, torch.tensor([[0.5, 0.0, 0.2]]))


def test_chosen_makes_them_sum_to_one() -> None:
    weights = mixing_weights(torch.tensor([[0.6, 0.3, 0.2]]), torch.tensor([[True, False, True]]), "chosen")
    torch.testing.assert_close(weights, torch.tensor([[0.75, 0.0, 0.25]]))


def test_scores_of_zero_share_equally() -> None:
    weights = mixing_weights(
        torch.tensor([[0.0, 0.0, 1.0, 0.0]]), torch.tensor([[True, True, False, False]]), "chosen"
    )
    torch.testing.assert_close(weights, torch.tensor([[0.5, 0.5, 0.0, 0.0]]))


def test_tiny_scores_keep_their_ratio() -> None:
    weights = mixing_weights(torch.tensor([[3e-30, 1e-30]]), torch.tensor([[True, True]]), "chosen")
    torch.testing.assert_close(weights, torch.tensor([[0.75, 0.25]]))


def test_scores_below_the_smallest_normal_number_still_sum_to_one() -> None:
    # What a confident float32 gate leaves to the others when its favourite is lost.
    weights = mixing_weights(torch.tensor([[1.0, 1e-40]]), torch.tensor([[False, True]]), "chosen")
    torch.testing.assert_close(weights, torch.tensor([[0.0, 1.0]]))


def test_scores_of_zero_leave_no_nan_in_the_gradient() -> None:
    scores = torch.zeros(1, 2, requires_grad=True)
    mixing_weights(scores, torch.tensor([[True, True]]), "chosen").sum().backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


def gradient_at_one_expert(normalise: str) -> torch.Tensor:
    logits = torch.tensor([[0.3, -0.2, 0.1]], requires_grad=True)
    arrived = torch.tensor([[True, False, False]])
    weights = mixing_weights(torch.softmax(logits, dim=-1), arrived, normalise)  # type: ignore[arg-type]
    y = combine(weights, *pairs(arrived.numpy()), torch.tensor([[0.9, 0.1]]))
    (-y[0, 0].log()).backward()
    assert logits.grad is not None
    return logits.grad


def test_at_one_expert_the_gate_learns_from_none() -> None:
    # d(-log softmax_0 - log 0.9) / d logits = softmax - onehot
    softmax = torch.softmax(torch.tensor([[0.3, -0.2, 0.1]]), dim=-1)
    torch.testing.assert_close(gradient_at_one_expert("none"), softmax - torch.tensor([[1.0, 0.0, 0.0]]))


def test_at_one_expert_the_gate_learns_nothing_from_chosen() -> None:
    torch.testing.assert_close(gradient_at_one_expert("chosen"), torch.zeros(1, 3), atol=1e-7, rtol=0)


def test_gradients_reach_the_experts_outputs() -> None:
    output_PC = torch.ones(2, 3, requires_grad=True)
    weights = torch.tensor([[0.7, 0.3]])
    combine(weights, np.array([0, 0]), np.array([0, 1]), output_PC).sum().backward()
    torch.testing.assert_close(output_PC.grad, torch.tensor([[0.7] * 3, [0.3] * 3]))


def test_an_item_without_output_gets_zeros() -> None:
    y = combine(torch.tensor([[1.0], [0.0]]), np.array([0]), np.array([0]), torch.ones(1, 2))
    assert y.tolist() == [[1.0, 1.0], [0.0, 0.0]]


def test_outputs_may_be_token_grids() -> None:
    # As many tokens as pairs: weights must still go with pairs.
    output_PLF = torch.arange(2 * 2 * 3.0).reshape(2, 2, 3)
    y = combine(torch.tensor([[0.25, 0.75]]), np.array([0, 0]), np.array([0, 1]), output_PLF)
    torch.testing.assert_close(y, (0.25 * output_PLF[0] + 0.75 * output_PLF[1])[None])


@st.composite
def mixtures(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    items, experts = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    scores = draw(st.lists(st.floats(0, 1), min_size=items * experts, max_size=items * experts))
    arrived = draw(st.lists(st.booleans(), min_size=items * experts, max_size=items * experts))
    arrived_TE = np.array(arrived).reshape(items, experts)
    arrived_TE[np.arange(items), draw(st.integers(0, experts - 1))] = True  # dispatch promises one at least
    return np.array(scores).reshape(items, experts), arrived_TE, draw(st.integers(0, 999))


@given(mixtures(), st.integers(1, 3))
def test_the_mesh_client_mixes_as_torch_does_and_as_the_definition_says(
    mixture: tuple[np.ndarray, np.ndarray, int], rounds: int
) -> None:
    scores_TE, arrived_TE, seed = mixture
    item_P, expert_P = pairs(arrived_TE)
    random = np.random.default_rng(seed)
    output_PC = random.random((len(item_P), 3), dtype=np.float32)

    # Deliveries of several rounds, each sorted by expert.
    round_P = random.integers(rounds, size=len(item_P))
    deliveries = [
        Delivery(item_P[round_P == r], expert_P[round_P == r], output_PC[round_P == r]) for r in range(rounds)
    ]
    mixed_TC = mix(client.mixing_weights(scores_TE, arrived_TE), deliveries)

    weights_TE = mixing_weights(torch.from_numpy(scores_TE), torch.from_numpy(arrived_TE), "chosen")
    torch_TC = sum(
        combine(weights_TE, d.item_P, d.expert_P, torch.from_numpy(d.output_P).double()) for d in deliveries
    )
    assert isinstance(torch_TC, torch.Tensor)
    np.testing.assert_allclose(mixed_TC, torch_TC.numpy(), atol=1e-6)

    for item in range(len(scores_TE)):
        mine = [p for p in range(len(item_P)) if item_P[p] == item]
        raw = np.array([scores_TE[item, expert_P[p]] for p in mine])
        shares = raw / raw.sum() if raw.sum() > 0 else np.full(len(mine), 1 / len(mine))
        np.testing.assert_allclose(mixed_TC[item], shares @ output_PC[mine], atol=1e-5)


@pytest.mark.parametrize("normalise", ["chosen", "none"])
def test_what_did_not_arrive_weighs_nothing(normalise: str) -> None:
    arrived = torch.tensor([[True, False], [False, True]])
    weights = mixing_weights(torch.full((2, 2), 0.5), arrived, normalise)  # type: ignore[arg-type]
    assert (weights[~arrived] == 0).all()
