"""FedAvg: the server averages the weights that clients reply with at the end of a round."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch

from airmoe.errors import InvalidInputError, telling
from airmoe.federated.exchange import Message, State
from airmoe.spec_text import SpecText, SpecTexts


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

    Args:
        name: of the stage, for reports and checkpoints.
        clients: how many, numbered from 0; all take part in every round.
        exchanges: the names of a round's exchanges. Weights come back in the last; earlier ones serve letters
            between clients.
        aggregation: makes the new weights; default their mean.
    """

    name: str
    clients: int
    exchanges: tuple[str, ...] = ("train",)
    aggregation: Aggregation = Mean()

    def opening(self, state: State, round_: int) -> dict[int, Message]:
        """Send the weights to all clients."""
        return dict.fromkeys(range(self.clients), Message(state))

    def server_step(
        self, exchange: str, state: State, replies: Mapping[int, Message]
    ) -> tuple[State, dict[int, Message]]:
        """Aggregate the weights that came back; keep the old ones where none did."""
        trained = {client: reply for client, reply in replies.items() if reply.numbers.get("samples")}
        if exchange != self.exchanges[-1] or not trained:
            return state, {}
        with telling(f"aggregation {self.aggregation.name}"):
            sent = next(iter(trained.values())).tensors
            return _like(sent, self.aggregation(state, trained)), {}


def _like(sent: Mapping[str, torch.Tensor], made: State) -> State:
    """Return new weights; refuse other names, shapes or types than those that clients sent."""
    for name in sorted(sent.keys() | made.keys()):
        if name not in made or name not in sent:
            raise InvalidInputError("weights", sorted(made), f"those that clients sent: {sorted(sent)}")
        old, new = ((tuple(each[name].shape), each[name].dtype) for each in (sent, made))
        if old != new:
            raise InvalidInputError(f"shape and type of {name}", new, str(old))
    return made


def average(replies: Mapping[int, Message]) -> dict[str, torch.Tensor]:
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
    samples = {client: _samples(client, reply) for client, reply in replies.items()}
    total = sum(samples.values())
    if not total:
        raise InvalidInputError("samples", samples, "one that is above 0, to weigh the mean")
    if total == math.inf:
        raise InvalidInputError("samples", samples, "numbers whose sum is finite")
    first = next(iter(replies.values())).tensors
    for client, reply in replies.items():
        refuse_other_form(client, reply.tensors, first)
    mean = {}
    for name, like in first.items():
        whole = not (like.is_floating_point() or like.is_complex())
        accumulated = torch.zeros_like(like, dtype=torch.complex128 if like.is_complex() else torch.float64)
        for client, reply in replies.items():
            weight = samples[client] if whole else samples[client] / total
            accumulated.add_(reply.tensors[name], alpha=weight)
        mean[name] = (accumulated.div_(total).round_() if whole else accumulated).to(like.dtype)
    return mean


def _samples(client: int, reply: Message) -> float:
    samples = reply.numbers.get("samples")
    if samples is None or not 0 <= samples < math.inf:
        raise InvalidInputError(f"samples of client {client}", samples, "a number of at least 0")
    return samples + 0  # PyTorch takes no boolean as a weight


def refuse_other_form(client: int, tensors: State, first: State) -> None:
    """Raise unless a client's tensors can be averaged with the first one's."""
    if tensors.keys() != first.keys():
        names = sorted(tensors.keys() ^ first.keys())
        raise InvalidInputError(
            f"tensors of client {client}", sorted(tensors), f"those of the first client: {names} differ"
        )
    for name, like in first.items():
        form, expected = (tensors[name].dtype, tuple(tensors[name].shape)), (like.dtype, tuple(like.shape))
        if form != expected:
            raise InvalidInputError(f"{name} of client {client}", form, f"{expected}, as of the first client")
        if like.dtype == torch.bool and not torch.equal(tensors[name], like):
            raise InvalidInputError(
                f"{name} of client {client}", "another boolean", "the same at all clients: it has no mean"
            )
