"""Stage 3: clients ask one another's experts and train the gate, extractor and experts fixed.

Two rules are chosen apart: whom a client asks (`airmoe.networked.queries`), and how the clients' gates stay
alike (`airmoe.networked.syncs`). RanGate, RollGate and FedGate are pairs of them, `METHODS`. What a client
learns from answers stands in `airmoe.networked.gate_loss`.

Expert outputs on local data do not change while the gate learns. So each (image, expert) pair is fetched once
("features out, probabilities back") and kept. A round therefore has three exchanges: clients query one
another, answer one another, and train. Where clients average their gates with neighbours, a fourth follows,
in which what they sent each other arrives.

A channel-aware gate scores an image for links that are drawn anew in every step. p_j(y) is then what the
expert answers to features that arrive at the SNR of its link (see `airmoe.networked.answers`), and W holds
the weights of the link's worth, too.

The paper's exact rule for FedGate is not public; this reading averages the whole gate.

Shape suffixes: T items, E experts, F features, C classes.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from airmoe.federated import Message, State
from airmoe.networked.answers import CLEAN_DB, SNR_LEVELS_DB, AnswersAtLevels
from airmoe.networked.config import GateSettings
from airmoe.networked.gate_loss import Biased, train_epochs
from airmoe.networked.gates import OF_GATE, OWN_BIAS, trained_part
from airmoe.networked.kept_questions import with_questions
from airmoe.networked.queries import refuse_too_many
from airmoe.networked.syncs import Alone, Partial, Sync
from airmoe.randomness import stream
from airmoe.runs.weights import not_finite

EXCHANGES = ("query", "answer", "train")
"""The exchanges of a round. A server that averages sends the gate in "query" and gets it back in "train".
Queries and answers are letters between clients."""

_WANTED, _TOLD = "wanted", "told"
"""Names in a client's state within a round: the pairs asked for; samples and loss."""


def exchanges_of(sync: Sync) -> tuple[str, ...]:
    """Return the exchanges of a round; in "mix" the gates arrive that neighbours sent each other."""
    return EXCHANGES if sync.averages or isinstance(sync, Alone) else (*EXCHANGES, "mix")


class FedGateClient:
    """A client of stage 3. What it trains is `trained_part` of the gate.

    Between rounds its state is that of `AnswersAtLevels`, with its gate or its bias where it has its own, and
    with questions of others where these hold it back. Within a round it also holds the gate's weights and the
    wanted pairs.

    Args:
        gate: the workspace, with the weights that training begins with; shared by the clients of one process.
        expert: this client's own, features (P, F) to class probabilities (P, C).
        features_TF: float32, features of this client's images.
        labels_T: int64, their classes.
        settings: of the stage.
        seed: the run's seed.
        client: this client's number, and its own expert's.

    Raises:
        InvalidInputError: more experts are to be asked per image than there are.
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
        self._rule, self._sync = settings.query_rule, settings.sync_rule
        refuse_too_many(self._rule, self._experts)
        self._anchor = self._sync.anchor if isinstance(self._sync, Partial) else 0.0
        # Where no server sends weights, training begins with those of the workspace.
        self._first = {} if self._sync.averages else _weights_of(self._part)
        levels_db = SNR_LEVELS_DB if settings.channel_aware else CLEAN_DB
        self._levels = len(levels_db)
        self._answers = AnswersAtLevels(features_TF, labels_T, self._experts, levels_db)

    def client_step(self, exchange: str, state: State, message: Message) -> tuple[State, Message]:
        """Take the step of an exchange, one of `exchanges_of` the rule."""
        steps = {"query": self.query, "answer": self.answer, "train": self.train, "mix": self.mix}
        return steps[exchange](state, message)

    def query(self, state: State, message: Message) -> tuple[State, Message]:
        """Ask the experts that the rule names: the own one on the spot, others by letter."""
        round_, state = int(message.numbers["round"]), self._begun(state, message)
        gate = self._loaded(state)
        drawn = self._drawn(round_)
        with torch.no_grad():
            scores_TE = gate(self._features, drawn.snr_db_TE).scores_TE
        wanted_TE = self._rule(scores_TE, round_, self._client, drawn.choices) & ~state["known"]
        letters = {}
        for expert in wanted_TE.any(dim=0).nonzero().flatten().tolist():
            item_I = _items_of(wanted_TE, expert)
            noise = stream(self._seed, "fedgate noise", round_, self._client, expert)
            question_PF = self._answers.question(item_I, noise)
            if expert == self._client:
                state = self._answers.with_answer(state, expert, item_I, self._expert(question_PF))
            else:
                letters[expert] = {"features": question_PF}
        return {**state, _WANTED: wanted_TE}, Message(letters=letters)

    def answer(self, state: State, message: Message) -> tuple[State, Message]:
        """Let the own expert answer others; keep some of what they ask where that holds the gate back."""
        answers = {
            client: {"probabilities": self._expert(letter["features"])}
            for client, letter in message.letters.items()
        }
        if self._anchor and message.letters:
            asked_QF = torch.cat([self._clean(letter["features"]) for letter in message.letters.values()])
            lots = stream(self._seed, "questions kept", int(message.numbers["round"]), self._client)
            state = with_questions(state, asked_QF, lots)
        return state, Message(letters=answers)

    def train(self, state: State, message: Message) -> tuple[State, Message]:
        """Train the gate on all answers known so far; send its weights to whom the rule names.

        A query without an answer is repeated when it is wanted again. An image without any answer is left
        out.
        """
        round_, wanted_TE = int(message.numbers["round"]), state[_WANTED]
        state = {name: each for name, each in state.items() if name != _WANTED}
        for expert, letter in message.letters.items():
            item_I = _items_of(wanted_TE, expert)
            state = self._answers.with_answer(state, expert, item_I, letter["probabilities"])
        gate, drawn = self._loaded(state), self._drawn(round_)
        # Training draws on from where the query stopped.
        self._rule(torch.zeros(wanted_TE.shape), round_, self._client, drawn.choices)
        samples, loss = train_epochs(
            gate,
            self._part,
            self._features,
            self._answers,
            state,
            self._settings,
            self._anchor,
            drawn.choices,
            drawn.links,
        )
        return self._told(state, gate, round_, {"samples": samples, "loss": loss})

    def mix(self, state: State, message: Message) -> tuple[State, Message]:
        """Take the mean, in float64, of the own gate and those that neighbours sent."""
        told, state = state[_TOLD], {name: each for name, each in state.items() if name != _TOLD}
        own = {name: each for name, each in state.items() if name.startswith(OF_GATE)}
        sent = {self._client: {name.removeprefix(OF_GATE): each for name, each in own.items()}}
        every = [letter for _, letter in sorted({**message.letters, **sent}.items())]
        mixed = {
            name: torch.stack([weights[name.removeprefix(OF_GATE)].double() for weights in every])
            .mean(dim=0)
            .to(each.dtype)
            for name, each in own.items()
        }
        samples, loss = told.tolist()
        return {**state, **mixed}, Message(numbers={"samples": samples, "loss": loss})

    def _begun(self, state: State, message: Message) -> State:
        """Return the state with the weights that the round begins with."""
        if not state:
            state = {
                **self._answers.nothing_known(),
                **{OF_GATE + name: tensor for name, tensor in self._first.items()},
            }
            if isinstance(self._sync, Partial):
                state[OWN_BIAS] = torch.zeros(self._experts)
        return {**state, **{OF_GATE + name: tensor for name, tensor in message.tensors.items()}}

    def _loaded(self, state: State) -> nn.Module:
        """Return the workspace with the weights and the bias in a state."""
        weights = {name.removeprefix(OF_GATE): state[name] for name in state if name.startswith(OF_GATE)}
        self._part.load_state_dict(weights)
        self._gate.train()
        return Biased(self._gate, state[OWN_BIAS]) if OWN_BIAS in state else self._gate

    def _told(
        self, state: State, gate: nn.Module, round_: int, numbers: dict[str, float]
    ) -> tuple[State, Message]:
        """Return what is kept of trained weights, and what is sent of them.

        Weights that are not finite are not kept. The reply says by its loss that they are of no use.
        """
        trained = _weights_of(self._part)
        own = {OWN_BIAS: gate.bias_E.detach().clone()} if isinstance(gate, Biased) else {}
        if self._sync.averages:
            if not_finite(own):
                return _without_weights(state), Message(numbers=numbers | {"loss": float("nan")})
            return {**_without_weights(state), **own}, Message(trained, numbers)
        if not_finite(trained):
            return state, Message(numbers=numbers | {"loss": float("nan")})
        state = {**state, **{OF_GATE + name: tensor for name, tensor in trained.items()}}
        if exchanges_of(self._sync) == EXCHANGES:
            return state, Message(numbers=numbers)
        neighbours = self._sync.neighbours(self._client, self._experts, round_)
        told = torch.tensor([numbers["samples"], numbers["loss"]], dtype=torch.float64)
        return {**state, _TOLD: told}, Message(numbers=numbers, letters=dict.fromkeys(neighbours, trained))

    def _clean(self, question_PF: Tensor) -> Tensor:
        """Return the features of a question that arrived without noise: its last level."""
        return question_PF[len(question_PF) - len(question_PF) // self._levels :]

    def _drawn(self, round_: int) -> "_Drawn":
        choices = stream(self._seed, "fedgate", round_, self._client)
        links = stream(self._seed, "fedgate links", round_, self._client)
        snr_db_TE, _ = self._answers.draw_links(len(self._features), links)
        return _Drawn(snr_db_TE, choices, links)


class _Drawn(NamedTuple):
    """The links of a round's queries, and the streams right after they were drawn.

    No generator is kept from step to step, so training repeats the draws to go on from there.
    """

    snr_db_TE: Tensor
    choices: np.random.Generator
    links: np.random.Generator


def _weights_of(part: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in part.state_dict().items()}


def _without_weights(state: State) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if not name.startswith(OF_GATE)}


def _items_of(wanted_TE: Tensor, expert: int) -> Tensor:
    return wanted_TE[:, expert].nonzero().flatten()
