"""Stage 3, FedGate: federated averaging of the gate, extractor and experts fixed.

The loss at client i, over the experts j whose answers it knows:

    -log(sum_j G_j p_j(y) / sum_j G_j) + balance * CV^2(batch mean of G) + proximal * ||W - Wbar||^2 / 2

Expert dropout (ours): in every step each known pair is left out with a small probability. Without it the gate
learns who is best but not who is second best, and when a node dies its images go astray.

Expert outputs on local data do not change while the gate learns, so each (image, expert) pair is fetched once
("features out, probabilities back") and kept. Which pairs to fetch is asked of the gate anew each round.

A channel-aware gate scores an image for links that are drawn anew in every step, and p_j(y) is what the
expert said to features that arrived at the SNR of its link (see `airmoe.networked.answers`); W then holds
the weights of the link's worth, too.

The paper's exact rule for FedGate is not public; this reading averages the whole gate.

Shape suffixes: T items, B items of a batch, E experts, F features, C classes.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from airmoe.federated.loop import ClientUpdate, State
from airmoe.networked.answers import CLEAN_DB, SNR_LEVELS_DB, AnswerCache, AskExpert
from airmoe.networked.config import GateSettings
from airmoe.nn import BiasGate, LinearGate, balance_loss, topk_mask
from airmoe.randomness import stream

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


def content_of(gate: LinearGate | BiasGate) -> LinearGate:
    """Return the part of a gate that looks at features."""
    content = gate.content if isinstance(gate, BiasGate) else gate
    assert isinstance(content, LinearGate)
    return content


def trained_part(gate: LinearGate | BiasGate) -> nn.Module:
    """Return what is trained and averaged, with the gate's own parameters: all but the standardisation."""
    linear = content_of(gate).linear
    if not isinstance(gate, BiasGate):
        return linear
    return nn.ModuleDict({"linear": linear, "link_worth": gate.link_worth})


class FedGateClient:
    """A client of FedGate. What it trains and averages is `trained_part` of the gate.

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
        gate: LinearGate | BiasGate,
        features_TF: Tensor,
        labels_T: Tensor,
        ask: AskExpert,
        settings: GateSettings,
        seed: int,
        client: int,
    ) -> None:
        self._gate, self._features, self._ask = gate, features_TF, ask
        self._part = trained_part(gate)
        self._settings, self._seed, self._client = settings, seed, client
        experts = content_of(gate).linear.out_features
        levels_db = SNR_LEVELS_DB if settings.channel_aware else CLEAN_DB
        self._answers = AnswerCache(features_TF, labels_T, experts, client, levels_db)

    def update(self, state: State, round_: int) -> ClientUpdate:
        """Ask experts as the global gate suggests, then train the gate on all answers known so far."""
        self._part.load_state_dict(state)
        self._gate.train()
        random = stream(self._seed, "fedgate", round_, self._client)
        links = stream(self._seed, "fedgate links", round_, self._client)
        query_bytes = self._answers.fetch(
            self._queries(random, links),
            self._ask,
            lambda expert: stream(self._seed, "fedgate noise", round_, self._client, expert),
        )
        anchor = [parameter.detach().clone() for parameter in self._part.parameters()]
        settings, samples = self._settings, len(self._features)
        optimiser = torch.optim.SGD(
            self._part.parameters(),
            lr=settings.learning_rate,
            momentum=settings.momentum,
            foreach=True,
        )
        total = torch.zeros(())
        for _ in range(settings.local_epochs):
            order = torch.from_numpy(random.permutation(samples))
            for batch in order.split(settings.batch_size):
                snr_db_BE, true_class_BE = self._answers.draw(batch, links)
                scores_BE, logits_BE, _ = self._gate(self._features[batch], snr_db_BE)
                absent_BE = ~self._present(self._answers.known_TE[batch], random)
                weights_BE = torch.softmax(logits_BE.masked_fill(absent_BE, -torch.inf), dim=-1)
                nll = -(weights_BE * true_class_BE).sum(dim=-1).clamp_min(1e-12).log().mean()
                drift = sum(
                    (parameter - start).square().sum()
                    for parameter, start in zip(self._part.parameters(), anchor, strict=True)
                )
                loss = nll + settings.balance * balance_loss(scores_BE) + settings.proximal * drift / 2
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                total += nll.detach() * len(batch)
        trained = {name: tensor.clone() for name, tensor in self._part.state_dict().items()}
        return ClientUpdate(trained, samples, float(total) / (samples * settings.local_epochs), query_bytes)

    def memory(self) -> dict[str, Tensor]:
        """Return which pairs are known and what their experts said."""
        return self._answers.memory()

    def remember(self, memory: State) -> None:
        """Take back what `memory` returned."""
        self._answers.remember(memory)

    def _queries(self, random: np.random.Generator, links: np.random.Generator) -> Tensor:
        every_T = torch.arange(len(self._features))
        with torch.no_grad():
            scores_TE = self._gate(self._features, self._answers.draw(every_T, links)[0]).scores_TE
        wanted_TE = topk_mask(scores_TE, self._settings.query_k)
        explored_T = torch.from_numpy(random.integers(scores_TE.shape[1], size=len(scores_TE)))
        wanted_TE[every_T, explored_T] = True
        return wanted_TE

    def _present(self, known_BE: Tensor, random: np.random.Generator) -> Tensor:
        """Drop known pairs at random, but not all of an item."""
        kept_BE = known_BE & torch.from_numpy(random.random(known_BE.shape) >= self._settings.expert_dropout)
        return torch.where(kept_BE.any(dim=1, keepdim=True), kept_BE, known_BE)
