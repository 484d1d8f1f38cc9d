"""What a client's gate learns from the answers that it knows, in one round of stage 3.

The loss over the experts j whose answers are known, with Wbar the round's first weights:

    -log(sum_j G_j p_j(y) / sum_j G_j) + balance * CV^2(batch mean of G) + proximal * ||W - Wbar||^2 / 2

Expert dropout (ours) leaves out each known pair with a small probability in every step. Without it the gate
learns which expert is best but not which is second best, and when a node dies its images go astray.

With an anchor (ours, see `airmoe.networked.syncs.Partial`) there is a further term: the cross-entropy of G
from what the gate says without the client's bias, about questions that others asked the client.

Shape suffixes: T items, B items of a batch, E experts, F features.
"""

import numpy as np
import torch
from torch import Tensor, nn

from airmoe.federated import State
from airmoe.networked.answers import AnswersAtLevels
from airmoe.networked.config import GateSettings
from airmoe.networked.kept_questions import drawn_questions
from airmoe.nn import GateOutput, balance_loss


class Biased(nn.Module):
    """A gate whose logits have a further bias for every expert.

    Args:
        gate: the gate.
        bias_E: float32.
    """

    def __init__(self, gate: nn.Module, bias_E: Tensor) -> None:
        super().__init__()
        self.gate, self.bias_E = gate, nn.Parameter(bias_E.clone())

    def forward(self, pooled_TF: Tensor, snr_db_TE: Tensor | None = None) -> GateOutput:
        """Return scores and logits (T, E)."""
        logits_TE = self.gate(pooled_TF, snr_db_TE).logits_TE + self.bias_E
        return GateOutput(torch.softmax(logits_TE, dim=-1), logits_TE)


def train_epochs(
    gate: nn.Module,
    weights: nn.Module,
    features_TF: Tensor,
    answers: AnswersAtLevels,
    state: State,
    settings: GateSettings,
    anchor: float,
    choices: np.random.Generator,
    links: np.random.Generator,
) -> tuple[int, float]:
    """Train a gate in place on the images with an answer; return how many these are, and the mean loss.

    Args:
        gate: what scores; a `Biased` one trains its bias, too.
        weights: the part of it that the proximal term holds.
        features_TF: float32, of the client's images.
        answers: what the state is read by.
        state: the client's.
        settings: of the stage.
        anchor: factor of the further term; 0 for none.
        choices: draws batches, what is dropped, and questions of others.
        links: draws links.
    """
    answered_T = state["known"].any(dim=1)
    if not (samples := int(answered_T.sum())):
        return 0, 0.0
    begun = [parameter.detach().clone() for parameter in weights.parameters()]
    trained = [*weights.parameters()]
    if isinstance(gate, Biased):
        trained.append(gate.bias_E)
    optimiser = torch.optim.SGD(trained, lr=settings.learning_rate, momentum=settings.momentum, foreach=True)
    total = torch.zeros(())
    for _ in range(settings.local_epochs):
        order = torch.from_numpy(choices.permutation(len(answered_T)))
        for batch in order[answered_T[order]].split(settings.batch_size):
            snr_db_BE, true_class_BE = answers.draw(state, batch, links)
            scores_BE, logits_BE, _ = gate(features_TF[batch], snr_db_BE)
            absent_BE = ~_present(state["known"][batch], settings.expert_dropout, choices)
            weights_BE = torch.softmax(logits_BE.masked_fill(absent_BE, -torch.inf), dim=-1)
            nll = -(weights_BE * true_class_BE).sum(dim=-1).clamp_min(1e-12).log().mean()
            drift = sum(
                (parameter - start).square().sum()
                for parameter, start in zip(weights.parameters(), begun, strict=True)
            )
            loss = nll + settings.balance * balance_loss(scores_BE) + settings.proximal * drift / 2
            if anchor and isinstance(gate, Biased):
                asked_BF = drawn_questions(state, len(batch), choices)
                if len(asked_BF):
                    loss = loss + anchor * _apart_from_common(gate, answers, asked_BF, links)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += nll.detach() * len(batch)
    return samples, float(total) / (samples * settings.local_epochs)


def _apart_from_common(
    gate: Biased, answers: AnswersAtLevels, asked_BF: Tensor, links: np.random.Generator
) -> Tensor:
    """Return the cross-entropy of a client's gate from its common part, about questions of others.

    The common part is the teacher as it is in this step. It learns, too: to lean away from the client where
    others ask, since its bias leans towards it.
    """
    snr_db_BE, _ = answers.draw_links(len(asked_BF), links)
    common_BE = gate.gate(asked_BF, snr_db_BE).logits_TE
    own_BE = torch.log_softmax(common_BE + gate.bias_E, dim=-1)
    return -(torch.softmax(common_BE.detach(), dim=-1) * own_BE).sum(dim=-1).mean()


def _present(known_BE: Tensor, dropout: float, random: np.random.Generator) -> Tensor:
    """Drop known pairs at random, but not all of an item."""
    kept_BE = known_BE & torch.from_numpy(random.random(known_BE.shape) >= dropout)
    return torch.where(kept_BE.any(dim=1, keepdim=True), kept_BE, known_BE)
