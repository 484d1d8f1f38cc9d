"""The loss of spectral contrast, for one client and across clients that share no images.

Two views of an image give z1 and z2, clipped to a squared norm of at most mu. Over n images, with all 2n
vectors as rows of Z, the correlation matrix and the mean agreement of the views are

    R = Z^T Z / 2n          tr(R+) = mean of z1 . z2

Spectral contrast (HaoChen et al. 2021) minimises -2 tr(R+) + |R|^2 over all images, in Frobenius norm. J
clients that each see only their own images reach the same gradient with FedSC (Jing et al., ICML 2024,
arXiv 2405.03949). Client j minimises

    -2 tr(R_j+) + alpha tr(R_j R_j) + 2 (1 - alpha) tr(R_j Rext_j)

where Rext_j is the mean of the other clients' matrices, held fixed. At alpha = 1/J and R_j equal to what the
server has of it, the mean of the clients' gradients is that of -2 tr(R+) + |mean of R_j|^2.

Shape suffixes: T items, P values of a projection.
"""

import math

import torch
from torch import Tensor


def clipped(projections_TP: Tensor, mu: float) -> Tensor:
    """Return the vectors, shortened where their squared norm is above ``mu``."""
    longest = math.sqrt(mu)
    norm_T1: Tensor = projections_TP.norm(dim=1, keepdim=True)
    return projections_TP * (longest / norm_T1.clamp_min(longest))


def correlation(projections_TP: Tensor) -> Tensor:
    """Return Z^T Z / T, (P, P), of clipped projections: those of all views."""
    return projections_TP.T @ projections_TP / len(projections_TP)


def spectral_loss(
    first_TP: Tensor, second_TP: Tensor, alpha: float = 1.0, others_PP: Tensor | None = None
) -> Tensor:
    """Return a client's loss, a scalar; see the module.

    Args:
        first_TP: clipped projections of one view of each image.
        second_TP: of the other views, in the same order.
        alpha: the weight of the client's own matrix, from 0 to 1; 1 is spectral contrast of this client
            alone.
        others_PP: mean of the other clients' matrices; no gradient goes through it. None: there are none.

    Examples:
        Views that agree, in two directions alike:

        >>> import torch
        >>> from airmoe.networked.spectral import spectral_loss
        >>> spectral_loss(torch.eye(2), torch.eye(2))
        tensor(-1.5000)
    """
    own_PP = correlation(torch.cat([first_TP, second_TP]))
    agreement = (first_TP * second_TP).sum(dim=1).mean()
    loss = alpha * own_PP.square().sum() - 2 * agreement
    if others_PP is not None:
        loss = loss + 2 * (1 - alpha) * (own_PP * others_PP.detach()).sum()
    return loss


def own_weight(round_: int, rounds: int, clients: int) -> float:
    """Return alpha in a round, from 0: it falls linearly from 1 in the first to 1/clients in the last.

    Examples:
        >>> from airmoe.networked.spectral import own_weight
        >>> [own_weight(round_, rounds=3, clients=4) for round_ in range(3)]
        [1.0, 0.625, 0.25]
    """
    return 1 - (1 - 1 / clients) * round_ / max(1, rounds - 1)


def cosine_rate(learning_rate: float, round_: int, rounds: int) -> float:
    """Return the learning rate in a round, from 0: it falls along half a cosine from ``learning_rate`` to
    almost 0.

    Examples:
        >>> from airmoe.networked.spectral import cosine_rate
        >>> [round(cosine_rate(0.03, round_, rounds=3), 4) for round_ in range(3)]
        [0.03, 0.0225, 0.0075]
    """
    return learning_rate * (1 + math.cos(math.pi * round_ / rounds)) / 2
