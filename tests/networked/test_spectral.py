"""The loss of spectral contrast, of one client and across clients.

Shape suffixes: J clients, T items, F inputs, P values of a projection.
"""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from airmoe.networked.spectral import clipped, correlation, cosine_rate, own_weight, spectral_loss

MU = 4.0


def test_long_vectors_are_shortened_and_others_left_alone() -> None:
    given_TP = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    torch.testing.assert_close(clipped(given_TP, 4.0), torch.tensor([[1.2, 1.6], [0.3, 0.4], [0.0, 0.0]]))


def test_a_projection_of_nothing_has_a_gradient_that_is_finite() -> None:
    zeros_TP = torch.zeros(3, 2, requires_grad=True)
    clipped(zeros_TP, MU).sum().backward()
    assert zeros_TP.grad is not None
    assert bool(zeros_TP.grad.isfinite().all())


@settings(max_examples=20)
@given(st.integers(2, 12), st.integers(1, 6), st.integers(0, 1000))
def test_alone_the_loss_is_that_of_spectral_contrast_over_all_pairs(
    items: int, width: int, seed: int
) -> None:
    # -2 mean z1.z2 + mean over all pairs of the 2n vectors of (z.z')^2, which needs no matrix.
    torch.manual_seed(seed)
    first, second = torch.randn(2, items, width, dtype=torch.float64)
    every = [*first, *second]
    pairs = sum(float(a @ b) ** 2 for a in every for b in every) / len(every) ** 2
    agreement = sum(float(a @ b) for a, b in zip(first, second, strict=True)) / items
    assert float(spectral_loss(first, second)) == pytest.approx(pairs - 2 * agreement, rel=1e-9)


@pytest.mark.parametrize("clients", [2, 3, 10])
def test_at_one_over_j_the_mean_of_the_gradients_is_that_of_the_global_objective(
    clients: int,
) -> None:
    torch.manual_seed(clients)
    items, inputs, width = 20, 7, 5
    network = nn.Sequential(nn.Linear(inputs, 9), nn.Tanh(), nn.Linear(9, width)).double()
    views_JVTF = 2 * torch.randn(clients, 2, items, inputs, dtype=torch.float64)

    def projections(client: int) -> tuple[Tensor, Tensor]:
        first_TF, second_TF = views_JVTF[client]
        return clipped(2.5 * network(first_TF), MU), clipped(2.5 * network(second_TF), MU)

    def gradient(loss: Tensor) -> Tensor:
        return torch.cat([each.flatten() for each in torch.autograd.grad(loss, network.parameters())])

    with torch.no_grad():
        told_JPP = torch.stack([correlation(torch.cat(projections(client))) for client in range(clients)])
    of_clients = [
        gradient(
            spectral_loss(
                *projections(client),
                alpha=1 / clients,
                others_PP=(told_JPP.sum(dim=0) - told_JPP[client]) / (clients - 1),
            )
        )
        for client in range(clients)
    ]

    # The oracle: the global objective over all images at once, written out, by automatic differentiation.
    first_TP, second_TP = (
        torch.cat([projections(client)[which] for client in range(clients)]) for which in (0, 1)
    )
    every_TP = torch.cat([first_TP, second_TP])
    mean_PP = torch.einsum("tp,tq->pq", every_TP, every_TP) / len(every_TP)
    whole = gradient(-2 * torch.einsum("tp,tp->", first_TP, second_TP) / len(first_TP) + (mean_PP**2).sum())

    cut_off_T = every_TP.norm(dim=1) > 1.999
    assert 0 < int(cut_off_T.sum()) < len(cut_off_T)  # clipping takes part
    error = (torch.stack(of_clients).mean(dim=0) - whole).norm() / whole.norm()
    assert float(error) < 1e-9


def test_no_gradient_goes_through_the_others() -> None:
    torch.manual_seed(0)
    first, second = torch.randn(2, 4, 3)
    others = torch.eye(3, requires_grad=True)
    first.requires_grad_()
    spectral_loss(first, second, 0.5, others).backward()
    assert others.grad is None


def test_alpha_falls_linearly_from_1_to_one_over_the_clients() -> None:
    weights = [own_weight(round_, 11, 5) for round_ in range(11)]
    assert weights[0] == 1
    assert weights[-1] == pytest.approx(1 / 5)
    steps = [before - after for before, after in pairwise(weights)]
    assert steps == pytest.approx([0.08] * 10)
    assert own_weight(0, 1, 5) == 1


def test_the_rate_falls_along_half_a_cosine() -> None:
    rates = [cosine_rate(0.03, round_, 100) for round_ in range(100)]
    assert rates[0] == 0.03
    assert rates[50] == pytest.approx(0.015)
    assert rates[25] == pytest.approx(0.015 * (1 + math.sqrt(0.5)))
    assert 0 < rates[99] < 1e-5
