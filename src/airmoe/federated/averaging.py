"""FedAvg: the server averages the weights that clients reply with at the end of a round."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from airmoe.errors import InvalidInputError, telling
from airmoe.federated.exchange import Message, State
from airmoe.federated.forms import fault_of_form, forms_of
from airmoe.federated.participation import ALL, Participation
from airmoe.federated.sums import Sums
from airmoe.spec_text import SpecText, SpecTexts

NOTHING_LEARNT = "samples is 0; expected a number above 0"
"""The fault of a reply that has no weight in the mean."""


class Aggregation(Protocol):
    """Makes the server's new weights of those that clients reply with; `airmoe.plugins` brings your own."""

    @property
    def name(self) -> str:
        """The text that `make_aggregation` reads."""

    def __call__(self, state: State, replies: Mapping[int, Message]) -> State:
        """Return the new weights, of the names, shapes and types that clients sent.

        Args:
            state: the weights that the clients began with.
            replies: by client, the weights in ``tensors`` and ``samples``, above 0, in ``numbers``.
        """
        ...


@dataclass(frozen=True)
class Mean(SpecText, rule="mean"):
    """The mean weighted by samples: FedAvg."""

    def __call__(self, state: State, replies: Mapping[int, Message]) -> State:
        """Return the mean; see `average`."""
        return average(replies)


_AGGREGATIONS = SpecTexts[Aggregation]("aggregation", (Mean,))


def make_aggregation(text: str) -> Aggregation:
    """Return the aggregation of this name.

    Args:
        text: "mean", or one that a plugin brings.

    Raises:
        InvalidInputError: none of these (the message lists them), or a parameter out of range.
    """
    return _AGGREGATIONS.read(text)


@dataclass(frozen=True)
class Averaging:
    """A stage whose server sends its weights, and replaces them by what it makes of those that come back.

    The mean needs no more than a sum (`SumStage`); another aggregation sees every client's weights.

    Args:
        name: of the stage, for reports and checkpoints.
        clients: how many, numbered from 0.
        exchanges: the names of a round's exchanges. Weights come back in the last; earlier ones serve letters
            between clients.
        aggregation: makes the new weights; default their mean.
        participation: who takes part in a round; default all clients.
    """

    name: str
    clients: int
    exchanges: tuple[str, ...] = ("train",)
    aggregation: Aggregation = Mean()
    participation: Participation = ALL

    by_samples = True

    @property
    def sums(self) -> tuple[str, ...]:
        """The last exchange, where its mean is taken."""
        return self.exchanges[-1:] if isinstance(self.aggregation, Mean) else ()

    def opening(self, state: State, round_: int) -> dict[int, Message]:
        """Send the weights to the clients that take part in this round."""
        return dict.fromkeys(self.participation.drawn(self.name, round_, self.clients), Message(state))

    def fault(self, exchange: str, state: State, reply: Message) -> str:
        """Return how trained weights differ in form from those that were sent, or that none were trained."""
        if exchange != self.exchanges[-1]:
            return ""
        samples = reply.numbers.get("samples")
        if samples == 0:
            return NOTHING_LEARNT
        if samples is None or not 0 < samples < math.inf:
            return f"samples is {samples}; expected a number above 0"
        return fault_of_form(reply.tensors, forms_of(state))

    def sum_step(
        self, exchange: str, state: State, total: State, replies: Mapping[int, Message]
    ) -> tuple[State, dict[int, Message]]:
        """Take the mean of the weights that came back; keep the old ones where none did."""
        return (mean_of_sums(total, _samples_of(replies), state) if replies else state), {}

    def server_step(
        self, exchange: str, state: State, replies: Mapping[int, Message]
    ) -> tuple[State, dict[int, Message]]:
        """Aggregate the weights that came back; keep the old ones where none did."""
        if exchange != self.exchanges[-1] or not replies:
            return state, {}
        with telling(f"aggregation {self.aggregation.name}"):
            made = self.aggregation(state, replies)
            if fault := fault_of_form(made, forms_of(state)):
                raise InvalidInputError("weights", fault, "the names, shapes and types that clients sent")
            return made, {}


def average(replies: Mapping[int, Message]) -> dict[str, Tensor]:
    """Return the mean of the replies' tensors, weighted by ``samples``.

    The sum is taken in float64, in the order given. The mean of integers, such as the number of batches that
    a normalisation has seen, is rounded to the nearest, halves to even; it is exact as long as the weighted
    sum stays below 2^53. Booleans have no mean: they must agree.

    Raises:
        InvalidInputError: no replies, ``samples`` that are missing, negative or all 0, or tensors of a client
            that differ from the first one's in name, shape or type, or in a boolean.
    """
    if not replies:
        raise InvalidInputError("replies", replies, "at least one to take the mean of")
    for client, reply in replies.items():
        samples = reply.numbers.get("samples")
        if samples is None or not 0 <= samples < math.inf:
            raise InvalidInputError(f"samples of client {client}", samples, "a number of at least 0")
    sums, first = Sums(by_samples=True), next(iter(replies.values())).tensors
    for client, reply in replies.items():
        if fault := fault_of_form(reply.tensors, forms_of(first)):
            raise InvalidInputError(f"tensors of client {client}", fault, "those of the first client")
        sums.add(reply)
    return mean_of_sums(sums.total, _samples_of(replies), first)


def mean_of_sums(total: State, samples: float, like: State) -> dict[str, Tensor]:
    """Return sums weighted by samples as means, in the types of ``like``; see `average`.

    Raises:
        InvalidInputError: the samples are 0 or infinite, or booleans do not agree.
    """
    if not 0 < samples < math.inf:
        raise InvalidInputError("samples", samples, "a finite sum above 0, to weigh the mean")
    mean = {}
    for name, tensor in total.items():
        divided, dtype = tensor / samples, like[name].dtype
        if dtype == torch.bool and not bool(((divided == 0) | (divided == 1)).all()):
            raise InvalidInputError(name, "another boolean", "the same at all clients: it has no mean")
        whole = not (dtype.is_floating_point or dtype.is_complex)
        mean[name] = (divided.round() if whole else divided).to(dtype)
    return mean


def _samples_of(replies: Mapping[int, Message]) -> float:
    return sum(reply.numbers["samples"] for reply in replies.values())
