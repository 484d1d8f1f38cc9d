"""Stage 3 in closed form: a gate from sums over clients, in one round, whatever the split.

Each expert's probability of an image's true class says how good it is about that image. A linear gate is
fitted to these by ridge regression: with standardised features h and a constant beside them,

    W = argmin |[h, 1] W - p(true class)|^2 + ridge |W without the constant|^2
    scores = softmax(sharpness [h, 1] W)

Only sums over images enter: the Gram matrix of [h, 1] and its products with p. So the gate is the same as if
all images lay in one place. A client asks every expert about all of its images, once, and sends its sums.
They are not private: whoever adds them up sees which features go together, and of few images the features
themselves.

A channel-aware gate adds the worth of a link afterwards, from a few sums more (`airmoe.networked.link_sums`).

Shape suffixes: T items, F features, G features and the constant, E experts, C classes, L levels of SNR.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from airmoe.federated import Message, State
from airmoe.networked.answers import CLEAN_DB, SNR_LEVELS_DB, AnswersAtLevels
from airmoe.networked.gates import content_of
from airmoe.networked.link_sums import change_by_level, fit_link_worth, link_sums
from airmoe.nn import BiasGate, LinearGate
from airmoe.randomness import stream

EXCHANGES = ("query", "answer", "sum")
"""The exchanges of the stage's round. Queries and answers are letters between clients."""


class GateSumsClient:
    """A client that has all experts answer about its images, and sends the sums that a gate is fitted to.

    Args:
        expert: its own expert, features to probabilities (T, C).
        features_TF: float32, of this client's images.
        labels_T: int64, their classes.
        client: its number, that of its expert.
        experts: E.
        channel_aware: whether experts are asked at several SNRs.
        seed: the run's seed, for the noise of these.
    """

    def __init__(
        self,
        expert: Callable[[Tensor], Tensor],
        features_TF: Tensor,
        labels_T: Tensor,
        client: int,
        experts: int,
        *,
        channel_aware: bool = False,
        seed: int = 0,
    ) -> None:
        self._expert, self._features, self._client, self._seed = expert, features_TF, client, seed
        self._experts, self._aware = experts, channel_aware
        levels_db = SNR_LEVELS_DB if channel_aware else CLEAN_DB
        self._answers = AnswersAtLevels(features_TF, labels_T, experts, levels_db)

    def client_step(self, exchange: str, state: State, message: Message) -> tuple[State, Message]:
        """Take the step of an exchange, one of `EXCHANGES`."""
        if exchange == "query":
            others = [expert for expert in range(self._experts) if expert != self._client]
            letters = {expert: {"features": self._question(expert)} for expert in others}
            return message.tensors, Message(letters=letters)
        if exchange == "answer":
            asked = message.letters.items()
            answers = {
                client: {"probabilities": self._expert(letter["features"])} for client, letter in asked
            }
            return state, Message(letters=answers)
        answered = {expert: letter["probabilities"] for expert, letter in message.letters.items()}
        answered[self._client] = self._expert(self._question(self._client))
        known = self._answers.nothing_known()
        for expert, probability_PC in answered.items():
            known = self._answers.with_answer(known, expert, self._every_item, probability_PC)
        true_TEL = known["true_class"].double()
        sums = gate_sums(bordered(self._features, state["mean"], state["std"]), true_TEL[:, :, -1])
        if self._aware:
            sums |= link_sums(true_TEL)
        return {}, Message(sums, {"samples": len(self._features)})

    @property
    def _every_item(self) -> Tensor:
        return torch.arange(len(self._features))

    def _question(self, expert: int) -> Tensor:
        return self._answers.question(
            self._every_item, stream(self._seed, "closed form noise", self._client, expert)
        )


def bordered(features_TF: Tensor, mean_F: Tensor, std_F: Tensor) -> Tensor:
    """Return standardised features with a constant 1 beside them, float64 (T, F + 1)."""
    standard_TF = (features_TF.double() - mean_F.double()) / std_F.double()
    return torch.cat([standard_TF, torch.ones(len(standard_TF), 1, dtype=torch.float64)], dim=1)


def gate_sums(bordered_TG: Tensor, true_TE: Tensor) -> dict[str, Tensor]:
    """Return what a gate is fitted to: ``gram`` (G, G) and ``cross`` (G, E).

    Args:
        bordered_TG: float64, see `bordered`.
        true_TE: float64, what each expert gives to the true class; 0 for one that did not answer: the gate
            had better not rely on it.
    """
    return {"gram": bordered_TG.T @ bordered_TG, "cross": bordered_TG.T @ true_TE}


def ridge(gram_GG: Tensor, cross_GE: Tensor, penalty: float) -> Tensor:
    """Return the weights (G, E) of ridge regression from its sums, float64; the constant is not penalised."""
    penalty_G = torch.full((len(gram_GG),), penalty, dtype=torch.float64)
    penalty_G[-1] = 0.0
    factor_GG = torch.linalg.cholesky(gram_GG + torch.diag(penalty_G))
    return torch.cholesky_solve(cross_GE, factor_GG)


def fit_gate(gate: nn.Module, sums: State, penalty: float, sharpness: float) -> None:
    """Set a gate's weights from the sums of all clients; see the module.

    Args:
        gate: linear, or `airmoe.nn.BiasGate` over a linear one.
        sums: of all clients, with ``links`` where the gate sees the links.
        penalty: the ridge.
        sharpness: of the softmax.
    """
    content = content_of(gate)
    assert isinstance(content, LinearGate)  # the settings say so
    weight_GE = sharpness * ridge(sums["gram"], sums["cross"], penalty)
    with torch.no_grad():
        content.linear.weight.copy_(weight_GE[:-1].T)
        content.linear.bias.copy_(weight_GE[-1])
    if isinstance(gate, BiasGate):
        fit_link_worth(gate.link_worth, sharpness * change_by_level(sums["links"], sums["cross"][-1]))
