"""Stage 3 in closed form: a gate from sums over clients, in one round, whatever the split.

Each expert's probability of an image's true class says how good it is about that image. A linear gate is
fitted to these by ridge regression: with standardised features h and a constant beside them,

    W = argmin |[h, 1] W - p(true class)|^2 + ridge |W without the constant|^2
    scores = softmax(sharpness [h, 1] W)

Only sums over images enter: the Gram matrix of [h, 1] and its products with p. So the gate is the same as if
all images lay in one place. A client asks every expert about all of its images, once, and sends its sums.
They are not private: whoever adds them up sees which features go together, and of few images the features
themselves.

Shape suffixes: T items, F features, G features and the constant, E experts, C classes.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from airmoe.federated import Message, State
from airmoe.nn import LinearGate

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
    """

    def __init__(
        self,
        expert: Callable[[Tensor], Tensor],
        features_TF: Tensor,
        labels_T: Tensor,
        client: int,
        experts: int,
    ) -> None:
        self._expert, self._features, self._labels = expert, features_TF, labels_T
        self._client, self._experts = client, experts

    def client_step(self, exchange: str, state: State, message: Message) -> tuple[State, Message]:
        """Take the step of an exchange, one of `EXCHANGES`."""
        if exchange == "query":
            others = [expert for expert in range(self._experts) if expert != self._client]
            letters = {expert: {"features": self._features} for expert in others}
            return message.tensors, Message(letters=letters)
        if exchange == "answer":
            asked = message.letters.items()
            answers = {
                client: {"probabilities": self._expert(letter["features"])} for client, letter in asked
            }
            return state, Message(letters=answers)
        answered = {expert: letter["probabilities"] for expert, letter in message.letters.items()}
        answered[self._client] = self._expert(self._features)
        sums = gate_sums(
            bordered(self._features, state["mean"], state["std"]), answered, self._labels, self._experts
        )
        return {}, Message(sums, {"samples": len(self._labels)})


def bordered(features_TF: Tensor, mean_F: Tensor, std_F: Tensor) -> Tensor:
    """Return standardised features with a constant 1 beside them, float64 (T, F + 1)."""
    standard_TF = (features_TF.double() - mean_F.double()) / std_F.double()
    return torch.cat([standard_TF, torch.ones(len(standard_TF), 1, dtype=torch.float64)], dim=1)


def gate_sums(
    bordered_TG: Tensor, probability_TC: dict[int, Tensor], labels_T: Tensor, experts: int
) -> dict[str, Tensor]:
    """Return what a gate is fitted to: ``gram`` (G, G) and ``cross`` (G, E).

    An expert that did not answer counts as wrong about these images: the gate had better not rely on it.
    """
    true_TE = torch.zeros(len(labels_T), experts, dtype=torch.float64)
    for expert, answer_TC in probability_TC.items():
        true_TE[:, expert] = answer_TC.double().gather(1, labels_T[:, None])[:, 0]
    return {"gram": bordered_TG.T @ bordered_TG, "cross": bordered_TG.T @ true_TE}


def ridge(gram_GG: Tensor, cross_GE: Tensor, penalty: float) -> Tensor:
    """Return the weights (G, E) of ridge regression from its sums, float64; the constant is not penalised."""
    penalty_G = torch.full((len(gram_GG),), penalty, dtype=torch.float64)
    penalty_G[-1] = 0.0
    factor_GG = torch.linalg.cholesky(gram_GG + torch.diag(penalty_G))
    return torch.cholesky_solve(cross_GE, factor_GG)


def fit_gate(gate: LinearGate, sums: State, penalty: float, sharpness: float) -> None:
    """Set a gate's weights from the sums of all clients; see the module."""
    weight_GE = sharpness * ridge(sums["gram"], sums["cross"], penalty)
    with torch.no_grad():
        gate.linear.weight.copy_(weight_GE[:-1].T)
        gate.linear.bias.copy_(weight_GE[-1])
