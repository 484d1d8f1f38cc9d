"""Ways to choose among the experts of a mixture: its gate's, at random, and with hindsight.

Shape suffixes: N clients, T images, E experts, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from airmoe.networked.client_data import ClientData
from airmoe.networked.scores import Scores, scores_of
from airmoe.nn import Extractor, MixtureOfExperts, topk_mask
from airmoe.nn.personal_gates import gates_of
from airmoe.randomness import stream
from airmoe.runs.evaluation import outputs_in_batches


@dataclass(frozen=True, eq=False)
class ExpertAnswers:
    """What all experts answer to all held-out images, over perfect links; expert e is that of client e.

    Args:
        scores_NTE: of the gate that each client has; that of all clients may stand there once for each.
        probability_TEC: of the experts.
        labels_T: the true classes.
        holds: for each client the classes in its data.
    """

    scores_NTE: Tensor
    probability_TEC: Tensor
    labels_T: NDArray[np.int64]
    holds: Sequence[Sequence[int]]

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return self.probability_TEC.shape[2]

    def by_gate(self, k: int = 1) -> Scores:
        """Return the scores of top-k routing by the gate, whose answers are mixed by its scores."""
        answers, local = list[NDArray[np.int64]](), list[NDArray[np.float64]]()
        for client, scores_TE in enumerate(self.scores_NTE):
            chosen_TE = topk_mask(scores_TE, k)
            weight_TE = torch.where(chosen_TE, scores_TE, 0.0)
            mixed_TC = torch.einsum("te,tec->tc", weight_TE, self.probability_TEC.to(weight_TE.dtype))
            answers.append(mixed_TC.argmax(dim=1).numpy())
            local.append(chosen_TE[:, client].numpy() / k)
        return self._scores(np.stack(answers), np.stack(local))

    def at_random(self, seed: int) -> Scores:
        """Return the scores of one expert drawn at random for each client and image."""
        clients, images = len(self.holds), len(self.labels_T)
        random = stream(seed, "random routing")
        return self._by_expert(random.integers(self.probability_TEC.shape[1], size=(clients, images)))

    def by_oracle(self) -> Scores:
        """Return the scores where an expert that is right answers, if any is: the ceiling of every gate.

        A client takes its own expert where that one is right, else the first that is; where none is, its own.
        """
        right_TE = self._right_TE()
        return self._by_expert(_own_or_first(np.broadcast_to(right_TE, (len(self.holds), *right_TE.shape))))

    def by_holders(self) -> Scores:
        """Return the scores where an expert whose client holds the true class answers, right or wrong.

        A client takes its own expert where it holds the class, else the first that does: a perfect gate.
        """
        holds_CE = np.array([[label in held for held in self.holds] for label in range(self.classes)])
        holder_TE = holds_CE[self.labels_T]
        return self._by_expert(_own_or_first(np.broadcast_to(holder_TE, (len(self.holds), *holder_TE.shape))))

    def _right_TE(self) -> NDArray[np.bool_]:
        right: NDArray[np.bool_] = self._named_TE() == self.labels_T[:, None]
        return right

    def _named_TE(self) -> NDArray[np.int64]:
        return self.probability_TEC.argmax(dim=2).numpy()

    def _by_expert(self, expert_NT: NDArray[np.int64]) -> Scores:
        answers_NT = self._named_TE()[np.arange(len(self.labels_T)), expert_NT]
        local_NT = (expert_NT == np.arange(len(self.holds))[:, None]).astype(np.float64)
        return self._scores(answers_NT, local_NT)

    def _scores(self, answers_NT: NDArray[np.int64], local_NT: NDArray[np.float64]) -> Scores:
        return scores_of(answers_NT, local_NT, self.labels_T, self.holds, self.classes)


def expert_answers(model: MixtureOfExperts, data: ClientData) -> ExpertAnswers:
    """Return what all experts of a mixture answer to all held-out images; its gate sees no links."""
    extractor = model.extractor
    assert isinstance(extractor, Extractor)
    features_TF = outputs_in_batches(extractor, data.test_images_TCHW, extractor.images_at_once)
    gates = gates_of(model.layer.gate.eval())
    with torch.no_grad():
        scores_NTE = torch.stack([gate(features_TF).scores_TE for gate in gates])
    scores_NTE = scores_NTE.expand(len(data.holds), -1, -1)  # one gate is that of all clients
    probability_TEC = torch.stack([outputs_in_batches(e, features_TF) for e in model.layer.experts], dim=1)
    return ExpertAnswers(scores_NTE, probability_TEC, data.test_labels_T, data.holds)


def pattern(answers: ExpertAnswers) -> NDArray[np.float64]:
    """Return (N, E): which share of a client's own-class images its gate sends to which expert, top-1."""
    best_NT, experts = answers.scores_NTE.argmax(dim=2).numpy(), answers.scores_NTE.shape[2]
    own_NT = [np.isin(answers.labels_T, held) for held in answers.holds]
    own = [best_T[own_T] for best_T, own_T in zip(best_NT, own_NT, strict=True)]
    return np.stack([np.bincount(best, minlength=experts) / max(len(best), 1) for best in own])


def _own_or_first(fit_NTE: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the own expert where it fits or none does, else the first that fits."""
    own_NT = np.broadcast_to(np.arange(fit_NTE.shape[0])[:, None], fit_NTE.shape[:2])
    own_fits_NT = np.take_along_axis(fit_NTE, own_NT[:, :, None], axis=2)[:, :, 0]
    first_NT = fit_NTE.argmax(axis=2)
    return np.where(own_fits_NT | ~fit_NTE.any(axis=2), own_NT, first_NT)
