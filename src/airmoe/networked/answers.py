"""The experts' answers to a client's images at several SNRs; a gate learns from them in stage 3.

Experts do not change in stage 3, so the answers of each (image, expert) pair are fetched once and kept.
Answers to clean features say nothing of what a bad link costs. For a channel-aware gate features are
therefore sent at each of a few SNRs, the levels, and each step draws a level for every pair.

Each image is treated as if a client drawn at random asked about it (ours). That client's own expert gets the
features as they are, behind a link of 30 dB. If only an image's own client asked, its expert would be right
about every training image. The gate would then take 30 dB for the sign of the right expert, and each client
would keep nearly all images to itself.

Shape suffixes: T items, B items of a batch, I items fetched, P received payloads, E experts, L levels,
F features, C classes.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from airmoe.federated import State
from airmoe.links import RayleighSnr, receive_analog
from airmoe.links.snapshot import OWN_NODE_SNR_DB

CLEAN_DB = (math.inf,)
"""The level of a gate that is blind to the channel."""

SNR_LEVELS_DB = (-15.0, -10.0, -5.0, 0.0, 5.0, 15.0, math.inf)
"""The levels of a channel-aware gate (ours). Its SNR code is the same for everything below -10 dB. The two
lowest levels stand for the deep fades; only these cost experts of few classes much."""


class AnswersAtLevels:
    """What a client knows of the experts' answers to its images.

    They are a client's state, which callers keep and no method changes: `with_answer` returns a new one. It
    holds ``known`` (T, E), bool, and ``true_class`` (T, E, L), float32: the probability of the true class.
    The loss needs no more of an answer.

    Args:
        features_TF: float32, of the client's images.
        labels_T: int64, their classes.
        experts: E.
        levels_db: the SNRs, dB, the last one inf.
    """

    def __init__(
        self, features_TF: Tensor, labels_T: Tensor, experts: int, levels_db: Sequence[float]
    ) -> None:
        self._features, self._labels, self._experts = features_TF, labels_T, experts
        self._level_db_L = torch.tensor(levels_db)

    def nothing_known(self) -> State:
        """Return the state before the first answer."""
        shape = len(self._labels), self._experts
        return {
            "known": torch.zeros(shape, dtype=torch.bool),
            "true_class": torch.zeros(*shape, len(self._level_db_L)),
        }

    def question(self, item_I: Tensor, noise: np.random.Generator) -> Tensor:
        """Return the features of items as an expert receives them, (L * I, F), level by level.

        ``noise`` draws the noise of the link.
        """
        sent_IF = self._features[item_I]
        return torch.cat([_received(sent_IF, level, noise) for level in self._level_db_L.tolist()])

    def with_answer(self, state: State, expert: int, item_I: Tensor, probability_PC: Tensor) -> State:
        """Return the state that also knows an expert's answer (L * I, C) to the `question`."""
        levels, every_P = len(self._level_db_L), torch.arange(len(probability_PC))
        true_P = probability_PC[every_P, self._labels[item_I].repeat(levels)]
        known_TE, true_class_TEL = state["known"].clone(), state["true_class"].clone()
        known_TE[item_I, expert] = True
        true_class_TEL[item_I, expert] = true_P.reshape(levels, -1).T
        return {**state, "known": known_TE, "true_class": true_class_TEL}

    def draw_links(self, items: int, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Draw links anew: return their SNR as a gate sees it (B, E), dB, and the number of their level."""
        shape = items, self._experts
        level_BE = torch.from_numpy(random.integers(len(self._level_db_L), size=shape))
        asks_BE = _asks(random, shape)
        level_BE[asks_BE] = len(self._level_db_L) - 1
        return self._level_db_L[level_BE].masked_fill(asks_BE, OWN_NODE_SNR_DB), level_BE

    def draw(self, state: State, item_B: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return the SNR (B, E), dB, of links drawn anew, and the experts' ``true_class`` at it (B, E)."""
        snr_db_BE, level_BE = self.draw_links(len(item_B), random)
        return snr_db_BE, state["true_class"][item_B].gather(2, level_BE.unsqueeze(2)).squeeze(2)


class QuestionsOverLinks(NamedTuple):
    """Features as they reach every expert over Rayleigh links that are drawn for each item.

    Attributes:
        snr_db_TE: what a gate sees of the links, dB.
        received: for every expert the features (T, F) that it gets.
        asked_by_T: the client that asks about each item, drawn at random.
    """

    snr_db_TE: Tensor
    received: list[Tensor]
    asked_by_T: Tensor


def questions_over_links(
    features_TF: Tensor, experts: int, mean_snr_db: float, random: np.random.Generator
) -> QuestionsOverLinks:
    """Return features as they reach ``experts`` experts over analog Rayleigh links of a mean SNR."""
    shape = len(features_TF), experts
    snr_db_TE = torch.from_numpy(RayleighSnr(mean_snr_db).draw(*shape, random)).float()
    asks_TE = _asks(random, shape)
    true_db_TE = snr_db_TE.masked_fill(asks_TE, math.inf).numpy()
    received = [
        torch.from_numpy(receive_analog(features_TF.numpy(), true_db_TE[:, expert], random))
        for expert in range(experts)
    ]
    seen_db_TE = snr_db_TE.masked_fill(asks_TE, OWN_NODE_SNR_DB)
    return QuestionsOverLinks(seen_db_TE, received, asks_TE.int().argmax(dim=1))


def _asks(random: np.random.Generator, shape: tuple[int, int]) -> Tensor:
    """Return bool, True for the own expert of the client that asks, drawn for each item."""
    asks = torch.zeros(shape, dtype=torch.bool)
    asks[torch.arange(shape[0]), torch.from_numpy(random.integers(shape[1], size=shape[0]))] = True
    return asks


def _received(sent_IF: Tensor, snr_db: float, noise: np.random.Generator) -> Tensor:
    if snr_db == math.inf:
        return sent_IF
    return torch.from_numpy(receive_analog(sent_IF.numpy(), np.full(len(sent_IF), snr_db), noise))
