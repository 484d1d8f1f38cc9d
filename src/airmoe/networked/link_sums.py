"""The worth of a link in closed form: how much less an expert is right about features that arrive with noise.

The gate in closed form predicts p, what an expert gives to the true class of clean features. At the SNR of
level l it gives p_l. What a level costs is the mean change over all pairs of an image and an expert, weighted
by p: the experts that know an image matter, since the others are not asked about it.

    change_l = sum p (p_l - p) / sum p

These are sums over images, too: but for the noise that is drawn, the worth of a link is the same however
images fall on clients.

Shape suffixes: T items, E experts, L levels of SNR, the last one without noise, V SNR codes, S ramps.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch import Tensor

from airmoe.networked.answers import SNR_LEVELS_DB
from airmoe.nn.channel_gates import WORTH_STEEPNESS, LinkWorth, snr_code

SMALLEST_RISE = 1e-4
"""The smallest rise of a ramp: by a softplus it cannot be 0."""

_CODES, _SMALL = 65, 1e-3
"""SNR codes at which the worth is fitted, evenly from the lowest to the highest; and what a rise costs."""


def link_sums(true_TEL: Tensor) -> dict[str, Tensor]:
    """Return ``links`` (L,), the sums of p p_l over all pairs, of what experts give to the true class."""
    return {"links": (true_TEL[:, :, -1:] * true_TEL).sum(dim=(0, 1))}


def change_by_level(links_L: Tensor, right_E: Tensor) -> Tensor:
    """Return what each level changes (L,); 0 for the last one.

    Args:
        links_L: see `link_sums`.
        right_E: the sums of p over all images.
    """
    return (links_L - links_L[-1]) / right_E.sum()


def fit_link_worth(worth: LinkWorth, logit_L: Tensor) -> None:
    """Set the weights of a link's worth by least squares, such that it never falls as the SNR rises.

    Between levels it is a straight line. Levels that the gate cannot tell apart count as their mean, and only
    differences matter: a worth that all links have in common changes no score.

    Args:
        worth: changed in place.
        logit_L: what each level of `SNR_LEVELS_DB` adds to a logit.
    """
    levels = len(SNR_LEVELS_DB)
    code_L = snr_code(torch.tensor([SNR_LEVELS_DB]), torch.zeros(1, 1), levels)[0].double().numpy()
    told, of_level = np.unique(code_L, return_inverse=True)
    target = np.bincount(of_level, logit_L.double().numpy()) / np.bincount(of_level)
    code_V = np.linspace(told[0], told[-1], _CODES)
    rise_S = _rises(worth.first_S.double().numpy(), code_V, np.interp(code_V, told, target))
    steep_S = WORTH_STEEPNESS * np.maximum(rise_S, SMALLEST_RISE)
    weight_S = (steep_S + np.log(-np.expm1(-steep_S))) / WORTH_STEEPNESS  # softplus undone, without overflow
    with torch.no_grad():
        worth.weight_S.copy_(torch.from_numpy(weight_S))


def _rises(
    first_S: NDArray[np.float64], code_V: NDArray[np.float64], target_V: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the rise of each ramp, at least 0, of the nearest sum of ramps and a constant.

    Among sums that are equally near, that of small rises: the first ramp is nearly constant.
    """
    share_VS = np.clip(code_V[:, np.newaxis] - first_S, 0, 1)
    constant_V1 = np.ones((len(code_V), 1))
    small_SS = np.eye(len(first_S), len(first_S) + 2) * _SMALL
    rows = np.vstack([np.hstack([share_VS, constant_V1, -constant_V1]), small_SS])
    solution, _ = nnls(rows, np.concatenate([target_V, np.zeros(len(first_S))]))
    rise_S: NDArray[np.float64] = solution[: len(first_S)]
    return rise_S
