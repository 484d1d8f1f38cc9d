"""Federated steps that know no engine: messages, and the two sides of a stage.

A round is a few exchanges. In each, every client gets a message, takes a step, and replies; then the server
takes a step. FedAvg in these words, with one exchange:

    def client_step(self, exchange, state, message):
        weights, loss = train(message.tensors, self.images, self.labels)
        return state, Message(weights, {"samples": len(self.labels), "loss": loss})

    def server_step(self, exchange, state, replies):
        return average(replies), {}

The exchange's name tells a step which one it is. Its state is named tensors, so it can be saved between
rounds; its data (images, networks to compute in) belong to the object that takes the step.

Clients that have to ask each other put letters into their replies. The engine brings a letter to the client
that it is addressed to, with that client's next message. So a client asks in one exchange, another client
answers in the next, and the answer lies in the message of the third.

Where the server needs only the sum of what clients reply, the stage says so (`SumStage`). Then replies are
added up as they come, one at a time in memory, and can be masked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torch import Tensor

State = Mapping[str, Tensor]
"""Named tensors: what a client or server keeps from step to step. A step returns a new one, whole."""


@dataclass(frozen=True)
class Message:
    """What the server tells a client, or what a client replies.

    Args:
        tensors: named; their bytes are what an exchange costs.
        numbers: a few, named; they count as no bytes. Every message to a client holds ``round``, from 0. In
            replies, ``samples`` is the weight of the client, and ``loss`` its mean loss.
        letters: in a reply, tensors for other clients, by the number of the client; in a message to a
            client, what others wrote to it, by the number of the writer.
    """

    tensors: State = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)
    letters: Mapping[int, State] = field(default_factory=dict)


class Client(Protocol):
    """One participant; its state is empty before its first step."""

    def client_step(self, exchange: str, state: State, message: Message, /) -> tuple[State, Message]:
        """Return the new state, and the reply to the server."""
        ...


class Stage(Protocol):
    """The server's side of a federated stage, and the names of the exchanges that make a round."""

    @property
    def name(self) -> str:
        """The name of the stage, for reports and checkpoints."""
        ...

    @property
    def exchanges(self) -> tuple[str, ...]:
        """The names of the exchanges of a round, in their order."""
        ...

    def opening(self, state: State, round_: int, /) -> Mapping[int, Message]:
        """Return the messages that a round begins with; who gets one takes part in this round."""
        ...

    def server_step(
        self, exchange: str, state: State, replies: Mapping[int, Message], /
    ) -> tuple[State, Mapping[int, Message]]:
        """Return the new state, and what clients are told in the next exchange of the round.

        ``replies`` are in the order of the clients' numbers; those that did not reply are not in it. A client
        that the server has nothing to tell gets an empty message.
        """
        ...


@runtime_checkable
class SumStage(Stage, Protocol):
    """A stage with exchanges in which the server needs no more of the replies' tensors than their sum."""

    @property
    def sums(self) -> tuple[str, ...]:
        """The names of these exchanges."""
        ...

    @property
    def by_samples(self) -> bool:
        """Whether each reply counts ``samples`` times in the sum."""
        ...

    def sum_step(
        self, exchange: str, state: State, total: State, replies: Mapping[int, Message], /
    ) -> tuple[State, Mapping[int, Message]]:
        """Return the new state, and what clients are told in the next exchange of the round.

        ``total`` holds the sums, float64, added in the order of the clients' numbers, empty where nobody
        replied; ``replies`` hold the clients' numbers, but no tensors.
        """
        ...


@runtime_checkable
class Judge(Protocol):
    """A stage that knows what a reply must be."""

    def fault(self, exchange: str, state: State, reply: Message, /) -> str:
        """Return why a reply is of no use, such as "samples is 0; expected ..."; empty if it is of use."""
        ...


@dataclass(frozen=True)
class Exchange:
    """Which exchange of a run this is: its stage, round (from 0) and name."""

    stage: str
    round_: int
    name: str

    def __str__(self) -> str:
        """Return how errors name it; rounds count from 1, as in metrics rows."""
        return f"{self.stage}, round {self.round_ + 1}, exchange {self.name}"


class Engine(Protocol):
    """What brings messages to clients, lets them take their steps, and brings back their replies."""

    def carry(self, exchange: Exchange, messages: Mapping[int, Message], /) -> Iterable[tuple[int, Message]]:
        """Return the clients that replied and their replies, in the order of the clients' numbers."""
        ...

    @property
    def states(self) -> Mapping[int, State]:
        """The clients' states, as far as the engine holds them, for checkpoints."""
        ...

    def restore(self, states: Mapping[int, State], /) -> None:
        """Take back what `states` gave."""
        ...


@dataclass(frozen=True)
class Summed:
    """What came back in an exchange that is a sum.

    Args:
        total: the sums, float64.
        replies: of the clients that are in it, in the order of their numbers; they hold no tensors.
        rejected: by client, why a reply was of no use.
        nbytes: all that was exchanged.
    """

    total: State
    replies: Mapping[int, Message]
    rejected: Mapping[int, str]
    nbytes: int


@runtime_checkable
class SumEngine(Engine, Protocol):
    """An engine that adds replies up itself, such as one whose clients mask theirs."""

    def carry_sum(
        self, exchange: Exchange, messages: Mapping[int, Message], fault: Callable[[int, Message], str], /
    ) -> Summed:
        """Carry an exchange that is a sum.

        ``fault`` tells why a client's reply is of no use, or nothing. The tensors that it is given may be on
        PyTorch's "meta" device, with type and shape but no values; then it is the engine that leaves out what
        is not finite.
        """
        ...


@runtime_checkable
class Relaying(Protocol):
    """An engine that says whether letters between clients pass the server."""

    @property
    def relays(self) -> bool:
        """Whether they do: each of their bytes travels twice then, and counts twice."""
        ...


def copied(state: State) -> dict[str, Tensor]:
    """Return a copy that shares no memory with the state."""
    return {name: tensor.clone() for name, tensor in state.items()}


def nbytes(state: State) -> int:
    """Return the bytes of all tensors."""
    return sum(tensor.nbytes for tensor in state.values())
