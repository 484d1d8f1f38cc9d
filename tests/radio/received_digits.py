"""An expert on digits whose 64 features arrive over a link: what full and fast chain are compared by.

Shape suffixes: T digits, F features.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from sklearn import datasets
from torch import Tensor
from torch.nn import functional

from airmoe.nn import MlpExpert
from airmoe.radio import Digital

ROUNDS = 20
"""How often the fast chain sends every digit, which makes its own error small."""


class Reception(NamedTuple):
    """What became of every digit: its mean square error, whether any bit was wrong, and the right answer."""

    error_T: Tensor
    failed_T: Tensor
    correct_T: Tensor


class Comparison(NamedTuple):
    """One measure: its mean over the full chain and over the fast one, and their distance in deviations."""

    full: float
    fast: float
    deviations: float


@lru_cache
def expert_and_digits() -> tuple[MlpExpert, Tensor, Tensor]:
    """An expert trained on half of the digits, and the features and labels of the other half."""
    features, labels = datasets.load_digits(return_X_y=True)
    features_TF, label_T = torch.tensor(features).float() / 16, torch.tensor(labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        expert = MlpExpert(64, 10, 64)
        adam = torch.optim.Adam(expert.parameters(), lr=0.01)
        for _ in range(150):
            adam.zero_grad()
            functional.cross_entropy(expert.logits(features_TF[::2]), label_T[::2]).backward()
            adam.step()
    return expert.eval(), features_TF[1::2], label_T[1::2]


def receive(digital: Digital, snr_db: float, rounds: int) -> tuple[Reception, Reception]:
    """Send every digit so often; means over rounds, and the variance from one round to another."""
    expert, features_TF, label_T = expert_and_digits()
    clean_TF = digital(features_TF, torch.full((len(features_TF),), torch.inf))
    rounds_RT = [torch.zeros(rounds, len(features_TF), dtype=torch.float64) for _ in Reception._fields]
    for number in range(rounds):
        received_TF = digital(features_TF, torch.full((len(features_TF),), snr_db))
        with torch.no_grad():
            answer_T = expert(received_TF).argmax(dim=1)
        rounds_RT[0][number] = (received_TF - features_TF).square().mean(dim=1)
        rounds_RT[1][number] = (received_TF != clean_TF).any(dim=1)
        rounds_RT[2][number] = answer_T == label_T
    return (
        Reception(*(measure_RT.mean(dim=0) for measure_RT in rounds_RT)),
        Reception(*(measure_RT.var(dim=0, correction=min(1, rounds - 1)) for measure_RT in rounds_RT)),
    )


def compare(digital: Digital, snr_db: float) -> dict[str, Comparison]:
    """Compare the chains in each measure; a deviation is that of the mean over digits of the difference.

    Where few payloads fail, the one round of the full chain says little of how much failures differ. The
    deviation is then the one that the rounds of the fast chain have.
    """
    torch.manual_seed(0)
    fast, of_a_round = receive(digital, snr_db, ROUNDS)
    full, _ = receive(Digital(digital.bits, digital.modulation, digital.code, "full"), snr_db, 1)
    measures = {}
    for name, full_T, fast_T, variance_T in zip(Reception._fields, full, fast, of_a_round, strict=True):
        difference_T = full_T - fast_T
        variance = max(difference_T.var().item(), (1 + 1 / ROUNDS) * variance_T.mean().item())
        deviation = math.sqrt(variance / len(difference_T))
        distance = difference_T.mean().item()
        measures[name] = Comparison(
            full_T.mean().item(), fast_T.mean().item(), distance / deviation if deviation else 0.0
        )
    return measures
