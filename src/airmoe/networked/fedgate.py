"""Stage 3, FedGate: federated averaging of the gate, extractor and experts fixed.

The loss of a client, over the experts j whose answers it knows and with Wbar the round's first weights:

    -log(sum_j G_j p_j(y) / sum_j G_j) + balance * CV^2(batch mean of G) + proximal * ||W - Wbar||^2 / 2

Expert dropout (ours) leaves out each known pair with a small probability in every step. Without it the gate
learns which expert is best but not which is second best, and when a node dies its images go astray.

Expert outputs on local data do not change while the gate learns. So each (image, expert) pair is fetched once
("features out, probabilities back") and kept. The gate decides anew each round which pairs to fetch. A round
therefore has three exchanges, `EXCHANGES`: clients query one another, answer one another, and train.

A channel-aware gate scores an image for links that are drawn anew in every step. p_j(y) is then what the
expert answers to features that arrive at the SNR of its link (see `airmoe.networked.answers`), and W holds
the weights of the link's worth, too.

The paper's exact rule for FedGate is not public; this reading averages the whole gate.

Shape suffixes: T items, B items of a batch, E experts, F features, C classes.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from airmoe.federated import Message, State
from airmoe.networked.answers import CLEAN_DB, SNR_LEVELS_DB, AnswersAtLevels
from airmoe.networked.config import GateSettings
from airmoe.networked.gates import trained_part
from airmoe.nn import balance_loss, topk_mask
from airmoe.randomness import stream

EXCHANGES = ("query", "answer", "train")
"""The exchanges of a round. The server sends the gate in "query" and gets it back in "train". Queries and
answers are letters between clients."""

_GATE, _WANTED = "gate/", "wanted"
"""Names in a client's state within a round: the weights that it began with, and the pairs asked for."""


class _Drawn(NamedTuple):
    """What a round draws for its queries, and the streams right after these draws.

    No generator is kept from step to step, so training repeats the draws to go on from there.
    """

    snr_db_TE: Tensor
    explored_T: Tensor
    choices: np.random.Generator
    links: np.random.Generator


class FedGateClient:
    """A client of FedGate. What it trains and averages is `trained_part` of the gate.

    Between rounds its state is that of `AnswersAtLevels`. Within a round it also holds the gate's weights and
    the wanted pairs.

    Args:
        gate: the workspace, shared by the clients of one process.
        expert: this client's own, features (P, F) to class probabilities (P, C).
        features_TF: float32, features of this client's images.
        labels_T: int64, their classes.
        settings: of the stage.
        seed: the run's seed.
        client: this client's number, and its own expert's.
    """

    def __init__(
        self,
        gate: nn.Module,
        expert: Callable[[Tensor], Tensor],
        features_TF: Tensor,
        labels_T: Tensor,
        settings: GateSettings,
        seed: int,
        client: int,
    ) -> None:
        self._gate, self._part, self._expert = gate, trained_part(gate), expert
        self._features, self._settings, self._seed, self._client = features_TF, settings, seed, client
        with torch.no_grad():
            self._experts = gate(features_TF[:1]).scores_TE.shape[1]
        levels_db = SNR_LEVELS_DB if settings.channel_aware else CLEAN_DB
        self._answers = AnswersAtLevels(features_TF, labels_T, self._experts, levels_db)

    def client_step(self, exchange: str, state: State, message: Message) -> tuple[State, Message]:
        """Take the step of an exchange, one of `EXCHANGES`."""
        steps = {"query": self.query, "answer": self.answer, "train": self.train}
        return steps[exchange](state, message)

    def query(self, state: State, message: Message) -> tuple[State, Message]:
        """Ask the experts that the global gate suggests: the own one on the spot, others by letter."""
        round_, state = int(message.numbers["round"]), state or self._answers.nothing_known()
        self._load(message.tensors)
        drawn = self._drawn(round_)
        with torch.no_grad():
            scores_TE = self._gate(self._features, drawn.snr_db_TE).scores_TE
        wanted_TE = topk_mask(scores_TE, self._settings.query_k)
        wanted_TE[torch.arange(len(wanted_TE)), drawn.explored_T] = True
        wanted_TE &= ~state["known"]
        letters = {}
        for expert in wanted_TE.any(dim=0).nonzero().flatten().tolist():
            item_I = _items_of(wanted_TE, expert)
            noise = stream(self._seed, "fedgate noise", round_, self._client, expert)
            question_PF = self._answers.question(item_I, noise)
            if expert == self._client:
                state = self._answers.with_answer(state, expert, item_I, self._expert(question_PF))
            else:
                letters[expert] = {"features": question_PF}
        begun = {_GATE + name: tensor for name, tensor in message.tensors.items()}
        return {**state, **begun, _WANTED: wanted_TE}, Message(letters=letters)

    def answer(self, state: State, message: Message) -> tuple[State, Message]:
        """Let the own expert answer other clients."""
        answers = {
            client: {"probabilities": self._expert(letter["features"])}
            for client, letter in message.letters.items()
        }
        return state, Message(letters=answers)

    def train(self, state: State, message: Message) -> tuple[State, Message]:
        """Train the gate on all answers known so far; reply with its weights.

        A query without an answer is repeated when the gate wants it again. An image without any answer is
        left out.
        """
        begun = {name.removeprefix(_GATE): state[name] for name in state if name.startswith(_GATE)}
        wanted_TE = state[_WANTED]
        state = {name: state[name] for name in state if not name.startswith(_GATE) and name != _WANTED}
        for expert, letter in message.letters.items():
            item_I = _items_of(wanted_TE, expert)
            state = self._answers.with_answer(state, expert, item_I, letter["probabilities"])
        self._load(begun)
        samples, loss = self._train_epochs(state, int(message.numbers["round"]))
        trained = {name: tensor.clone() for name, tensor in self._part.state_dict().items()}
        return state, Message(trained, {"samples": samples, "loss": loss})

    def _load(self, weights: State) -> None:
        self._part.load_state_dict(weights)
        self._gate.train()

    def _drawn(self, round_: int) -> _Drawn:
        choices = stream(self._seed, "fedgate", round_, self._client)
        links = stream(self._seed, "fedgate links", round_, self._client)
        items = len(self._features)
        snr_db_TE, _ = self._answers.draw_links(items, links)
        explored_T = torch.from_numpy(choices.integers(self._experts, size=items))
        return _Drawn(snr_db_TE, explored_T, choices, links)

    def _train_epochs(self, state: State, round_: int) -> tuple[int, float]:
        """Train the workspace on the images with an answer; return how many these are, and the mean loss."""
        answered_T = state["known"].any(dim=1)
        if not (samples := int(answered_T.sum())):
            return 0, 0.0
        drawn = self._drawn(round_)
        anchor = [parameter.detach().clone() for parameter in self._part.parameters()]
        settings = self._settings
        optimiser = torch.optim.SGD(
            self._part.parameters(),
            lr=settings.learning_rate,
            momentum=settings.momentum,
            foreach=True,
        )
        total = torch.zeros(())
        for _ in range(settings.local_epochs):
            order = torch.from_numpy(drawn.choices.permutation(len(answered_T)))
            for batch in order[answered_T[order]].split(settings.batch_size):
                snr_db_BE, true_class_BE = self._answers.draw(state, batch, drawn.links)
                scores_BE, logits_BE, _ = self._gate(self._features[batch], snr_db_BE)
                absent_BE = ~self._present(state["known"][batch], drawn.choices)
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
        return samples, float(total) / (samples * settings.local_epochs)

    def _present(self, known_BE: Tensor, random: np.random.Generator) -> Tensor:
        """Drop known pairs at random, but not all of an item."""
        kept_BE = known_BE & torch.from_numpy(random.random(known_BE.shape) >= self._settings.expert_dropout)
        return torch.where(kept_BE.any(dim=1, keepdim=True), kept_BE, known_BE)


def _items_of(wanted_TE: Tensor, expert: int) -> Tensor:
    return wanted_TE[:, expert].nonzero().flatten()
