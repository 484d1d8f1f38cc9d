"""What experts said to a client's images, as features arrived at several SNRs: what a gate learns from.

Experts do not change in stage 3, so each (image, expert) pair is fetched once and kept. To a gate that looks
at the links, answers to clean features say nothing of what a bad link costs: here features are sent at every
level of a few SNRs, and in each step a level is drawn for each pair.

Each image is taken as if a client drawn at random asked about it, whose own expert gets the features as they
are, behind a link of 30 dB (ours). With the image's own client as the only one that asks, an own expert would
be right about every image of the training set, the gate would take 30 dB for the sign of the right expert,
and each client would keep nearly all images to itself.

Shape suffixes: T items, B items of a batch, I items fetched, P received payloads, E experts, L levels,
F features, C classes.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from airmoe.federated.loop import State
from airmoe.links import RayleighSnr, receive_analog
from airmoe.links.snapshot import OWN_NODE_SNR_DB
from airmoe.runs.evaluation import outputs_in_batches

AskExpert = Callable[[int, Tensor], Tensor]
"""(expert, features (P, F)) to its class probabilities (P, C), wherever the expert lives."""

CLEAN_DB = (math.inf,)
"""The level of a gate that is blind to the channel."""

SNR_LEVELS_DB = (-15.0, -10.0, -5.0, 0.0, 5.0, 15.0, math.inf)
"""The levels of a channel-aware gate (ours). A gate shows everything below -10 dB as -10 dB; the two lowest
levels stand for the deep fades, the only links that cost experts of few classes much."""


class AnswerCache:
    """The probability of the true class that each expert gave to each image, at every level.

    Args:
        features_TF: float32, of the client's images.
        labels_T: int64, their classes.
        experts: E.
        own: the client's own expert, which costs no transfer.
        levels_db: the SNRs, dB, the last one inf.
    """

    def __init__(
        self, features_TF: Tensor, labels_T: Tensor, experts: int, own: int, levels_db: Sequence[float]
    ) -> None:
        self._features, self._labels, self._own = features_TF, labels_T, own
        self._level_db_L = torch.tensor(levels_db)
        # The loss needs no more of an answer than the probability of the true class.
        self._true_class_TEL = torch.zeros(len(labels_T), experts, len(levels_db))
        self.known_TE = torch.zeros(len(labels_T), experts, dtype=torch.bool)

    def fetch(self, wanted_TE: Tensor, ask: AskExpert, noise_of: Callable[[int], np.random.Generator]) -> int:
        """Ask for what is wanted and not known yet; return the bytes exchanged with other clients.

        Args:
            wanted_TE: bool.
            ask: reaches an expert.
            noise_of: expert to the generator of the noise on the way to it.
        """
        remote_bytes = 0
        wanted_TE = wanted_TE & ~self.known_TE
        for expert in wanted_TE.any(dim=0).nonzero().flatten().tolist():
            item_I = wanted_TE[:, expert].nonzero().flatten()
            noise, sent_IF = noise_of(expert), self._features[item_I]
            received_PF = torch.cat([_received(sent_IF, level, noise) for level in self._level_db_L.tolist()])
            probability_PC = ask(expert, received_PF)
            levels = len(self._level_db_L)
            true_P = probability_PC[torch.arange(len(received_PF)), self._labels[item_I].repeat(levels)]
            self._true_class_TEL[item_I, expert] = true_P.reshape(levels, -1).T
            if expert != self._own:
                remote_bytes += received_PF.nbytes + probability_PC.nbytes
        self.known_TE |= wanted_TE
        return remote_bytes

    def draw(self, item_B: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return for items the SNR (B, E) of links drawn anew, dB, and what the experts said at it (B, E)."""
        shape = len(item_B), self.known_TE.shape[1]
        level_BE = torch.from_numpy(random.integers(len(self._level_db_L), size=shape))
        asks_BE = _asks(random, shape)
        level_BE[asks_BE] = len(self._level_db_L) - 1
        snr_db_BE = self._level_db_L[level_BE].masked_fill(asks_BE, OWN_NODE_SNR_DB)
        return snr_db_BE, self._true_class_TEL[item_B].gather(2, level_BE.unsqueeze(2)).squeeze(2)

    def memory(self) -> dict[str, Tensor]:
        """Return which pairs are known and what their experts said."""
        return {"known": self.known_TE.to(torch.uint8), "true_class": self._true_class_TEL}

    def remember(self, memory: State) -> None:
        """Take back what `memory` returned."""
        self.known_TE = memory["known"].bool()
        self._true_class_TEL = memory["true_class"].clone()


def answers_over_links(
    features_TF: Tensor, experts: Sequence[nn.Module], mean_snr_db: float, random: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Return the SNR (T, E) of Rayleigh links, dB, and every expert's answer (T, E, C) over analog ones.

    Every image meets links of its own, and a client drawn at random asks about it.
    """
    shape = len(features_TF), len(experts)
    snr_db_TE = torch.from_numpy(RayleighSnr(mean_snr_db).draw(*shape, random)).float()
    asks_TE = _asks(random, shape)
    true_db_TE = snr_db_TE.masked_fill(asks_TE, math.inf).numpy()
    probability_TEC = torch.stack(
        [
            outputs_in_batches(
                expert,
                torch.from_numpy(receive_analog(features_TF.numpy(), true_db_TE[:, number], random)),
            )
            for number, expert in enumerate(experts)
        ],
        dim=1,
    )
    return snr_db_TE.masked_fill(asks_TE, OWN_NODE_SNR_DB), probability_TEC


def _asks(random: np.random.Generator, shape: tuple[int, int]) -> Tensor:
    """Return bool, True for the own expert of the client that asks, drawn for each item."""
    asks = torch.zeros(shape, dtype=torch.bool)
    asks[torch.arange(shape[0]), torch.from_numpy(random.integers(shape[1], size=shape[0]))] = True
    return asks


def _received(sent_IF: Tensor, snr_db: float, noise: np.random.Generator) -> Tensor:
    if snr_db == math.inf:
        return sent_IF
    return torch.from_numpy(receive_analog(sent_IF.numpy(), np.full(len(sent_IF), snr_db), noise))
