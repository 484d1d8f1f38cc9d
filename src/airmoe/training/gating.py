"""Stage 3, FedGate: federated averaging of the gate, extractor and experts fixed.

The loss at client i, over the experts j whose answers it knows:

    -log(sum_j G_j p_j(y) / sum_j G_j) + balance * CV^2(batch mean of G) + proximal * ||W - Wbar||^2 / 2

Expert dropout (ours): in every step each known pair is left out with a small probability. Without it the gate
learns who is best but not who is second best, and when a node dies its images go astray.

Expert outputs on local data do not change while the gate learns, so each (image, expert) pair is fetched once
("features out, probabilities back") and kept. Which pairs to fetch is asked of the gate anew each round.

The paper's exact rule for FedGate is not public; this reading averages the whole gate.

Shape suffixes: T items, B items of a batch, E experts, F features, C classes.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from airmoe.nn import LinearGate, balance_loss, topk_mask
from airmoe.randomness import stream
from airmoe.training.config import GateSettings
from airmoe.training.rounds import ClientUpdate, State

AskExpert = Callable[[int, Tensor], Tensor]
"""(expert, features (T, F)) to its class probabilities (T, C), wherever the expert lives."""


SMALLEST_STD = 1e-2
"""Features that hardly vary are not blown up."""


def federated_moments(features_TF: Sequence[Tensor]) -> tuple[Tensor, Tensor, int]:
    """Return mean and standard deviation (F,) of all clients' features together, and the bytes that it takes.

    Each client sends sums and sums of squares once and gets the result; summed in client order in float64.
    """
    samples = sum(len(features) for features in features_TF)
    total_F = torch.stack([features.double().sum(dim=0) for features in features_TF]).sum(dim=0)
    squares_F = torch.stack([features.double().square().sum(dim=0) for features in features_TF]).sum(dim=0)
    mean_F = total_F / samples
    std_F = (squares_F / samples - mean_F.square()).clamp_min(0).sqrt().clamp_min(SMALLEST_STD)
    exchanged = len(features_TF) * (total_F.nbytes + squares_F.nbytes + 2 * mean_F.float().nbytes)
    return mean_F.float(), std_F.float(), exchanged


class FedGateClient:
    """A client of FedGate. What it trains and averages is the gate's linear map.

    Args:
        gate: the workspace, shared by the clients of one process.
        features_TF: float32, features of this client's images.
        labels_T: int64, their classes.
        ask: reaches an expert.
        settings: of the stage.
        seed: the run's seed.
        client: this client's number, and its own expert's.
    """

    def __init__(
        self,
        gate: LinearGate,
        features_TF: Tensor,
        labels_T: Tensor,
        ask: AskExpert,
        settings: GateSettings,
        seed: int,
        client: int,
    ) -> None:
        self._gate, self._features, self._labels, self._ask = gate, features_TF, labels_T, ask
        self._settings, self._seed, self._client = settings, seed, client
        shape = (len(labels_T), gate.linear.out_features)
        self._known_TE = torch.zeros(shape, dtype=torch.bool)
        # The loss needs no more of an answer than the probability of the true class.
        self._true_class_TE = torch.zeros(shape)

    def update(self, state: State, round_: int) -> ClientUpdate:
        """Ask experts as the global gate suggests, then train the gate on all answers known so far."""
        self._gate.linear.load_state_dict(state)
        self._gate.train()
        random = stream(self._seed, "fedgate", round_, self._client)
        query_bytes = self._fetch(self._queries(random))
        anchor = [parameter.detach().clone() for parameter in self._gate.linear.parameters()]
        settings = self._settings
        optimiser = torch.optim.SGD(
            self._gate.linear.parameters(),
            lr=settings.learning_rate,
            momentum=settings.momentum,
            foreach=True,
        )
        total = torch.zeros(())
        for _ in range(settings.local_epochs):
            order = torch.from_numpy(random.permutation(len(self._labels)))
            for batch in order.split(settings.batch_size):
                scores_BE, logits_BE, _ = self._gate(self._features[batch])
                absent_BE = ~self._present(self._known_TE[batch], random)
                weights_BE = torch.softmax(logits_BE.masked_fill(absent_BE, -torch.inf), dim=-1)
                nll = -(weights_BE * self._true_class_TE[batch]).sum(dim=-1).clamp_min(1e-12).log().mean()
                drift = sum(
                    (parameter - start).square().sum()
                    for parameter, start in zip(self._gate.linear.parameters(), anchor, strict=True)
                )
                loss = nll + settings.balance * balance_loss(scores_BE) + settings.proximal * drift / 2
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                total += nll.detach() * len(batch)
        trained = {name: tensor.clone() for name, tensor in self._gate.linear.state_dict().items()}
        samples = len(self._labels)
        return ClientUpdate(trained, samples, float(total) / (samples * settings.local_epochs), query_bytes)

    def memory(self) -> dict[str, Tensor]:
        """Return which pairs are known and what their experts said."""
        return {"known": self._known_TE.to(torch.uint8), "true_class": self._true_class_TE}

    def remember(self, memory: State) -> None:
        """Take back what `memory` returned."""
        self._known_TE = memory["known"].bool()
        self._true_class_TE = memory["true_class"].clone()

    def _queries(self, random: np.random.Generator) -> Tensor:
        with torch.no_grad():
            scores_TE = self._gate(self._features).scores_TE
        wanted_TE = topk_mask(scores_TE, self._settings.query_k)
        explored_T = torch.from_numpy(random.integers(scores_TE.shape[1], size=len(scores_TE)))
        wanted_TE[torch.arange(len(scores_TE)), explored_T] = True
        return wanted_TE & ~self._known_TE

    def _present(self, known_BE: Tensor, random: np.random.Generator) -> Tensor:
        """Drop known pairs at random, but not all of an item."""
        kept_BE = known_BE & torch.from_numpy(random.random(known_BE.shape) >= self._settings.expert_dropout)
        return torch.where(kept_BE.any(dim=1, keepdim=True), kept_BE, known_BE)

    def _fetch(self, wanted_TE: Tensor) -> int:
        remote_bytes = 0
        for expert in wanted_TE.any(dim=0).nonzero().flatten().tolist():
            items = wanted_TE[:, expert].nonzero().flatten()
            features = self._features[items]
            probability_TC = self._ask(expert, features)
            self._true_class_TE[items, expert] = probability_TC[torch.arange(len(items)), self._labels[items]]
            if expert != self._client:
                remote_bytes += features.nbytes + probability_TC.nbytes
        self._known_TE |= wanted_TE
        return remote_bytes
