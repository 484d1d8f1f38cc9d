"""Federated steps that know no engine: messages, the two sides of a stage, and one round of it.

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
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from torch import Tensor

from airmoe.errors import InvalidInputError, telling

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

    def carry(self, exchange: Exchange, messages: Mapping[int, Message], /) -> Mapping[int, Message]:
        """Return the replies of the clients that replied."""
        ...

    @property
    def states(self) -> Mapping[int, State]:
        """The clients' states, as far as the engine holds them, for checkpoints."""
        ...

    def restore(self, states: Mapping[int, State], /) -> None:
        """Take back what `states` gave."""
        ...


@dataclass(frozen=True)
class RoundResult:
    """What came out of a round.

    Args:
        state: the server's.
        replies: of the last exchange.
        missing: clients that began the round and left it before its end.
        nbytes: all that was exchanged, over all clients and in both directions. A letter counts once, as if
            clients reached each other directly.
    """

    state: State
    replies: Mapping[int, Message]
    missing: tuple[int, ...]
    nbytes: int


def run_round(stage: Stage, state: State, round_: int, engine: Engine) -> RoundResult:
    """Run one round of a stage: all its exchanges, one after another.

    A client that fails to reply once leaves the round. Letters to clients that are not in the round are lost,
    and count as bytes.

    Raises:
        InvalidInputError: a letter in the last exchange, which no message follows that could bring it.
        AirmoeError: as the steps raise, with stage, round, exchange and client in front.
    """
    messages = _addressed(stage.opening(state, round_), {}, round_)
    invited, replies, total = set(messages), dict[int, Message](), 0
    for name in stage.exchanges:
        exchange = Exchange(stage.name, round_, name)
        total += sum(nbytes(message.tensors) for message in messages.values())
        replies = dict(sorted(engine.carry(exchange, messages).items()))
        for client, reply in replies.items():
            if reply.letters and name == stage.exchanges[-1]:
                with telling(f"{exchange}, client {client}"):
                    raise InvalidInputError(
                        "letters", f"for {sorted(reply.letters)}", "none in the last exchange of a round"
                    )
            total += nbytes(reply.tensors) + sum(map(nbytes, reply.letters.values()))
        with telling(f"{exchange}, server"):
            state, told = stage.server_step(name, state, replies)
        messages = _addressed({client: told.get(client, Message()) for client in replies}, replies, round_)
    return RoundResult(state, replies, tuple(sorted(invited - set(replies))), total)


def copied(state: State) -> dict[str, Tensor]:
    """Return a copy that shares no memory with the state."""
    return {name: tensor.clone() for name, tensor in state.items()}


def nbytes(state: State) -> int:
    """Return the bytes of all tensors."""
    return sum(tensor.nbytes for tensor in state.values())


def _addressed(
    messages: Mapping[int, Message], replies: Mapping[int, Message], round_: int
) -> dict[int, Message]:
    """Return the messages with the number of the round, and the letters that are for their clients."""
    return {
        client: replace(
            message,
            numbers={**message.numbers, "round": round_},
            letters={
                writer: reply.letters[client] for writer, reply in replies.items() if client in reply.letters
            },
        )
        for client, message in sorted(messages.items())
    }
