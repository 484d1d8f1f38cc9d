"""One round of a stage: messages out, replies back, the server's step; and what of it was of use."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from airmoe.errors import InvalidInputError, telling
from airmoe.federated.exchange import (
    Engine,
    Exchange,
    Judge,
    Message,
    Relaying,
    Stage,
    State,
    SumEngine,
    Summed,
    SumStage,
    nbytes,
)
from airmoe.federated.sums import Sums
from airmoe.runs.weights import not_finite


@dataclass(frozen=True)
class RoundResult:
    """What came out of a round.

    Args:
        state: the server's.
        replies: of the last exchange.
        epsilons: by client, the privacy that it told to have spent, whatever became of its reply.
        missing: clients that began the round and left it before its end.
        rejected: by client, why a reply was of no use; such a client has left the round, too.
        nbytes: all that was exchanged, over all clients and in both directions. A letter counts once, as if
            clients reached each other directly; twice if the engine says that it goes over the server.
    """

    state: State
    replies: Mapping[int, Message]
    epsilons: Mapping[int, float]
    missing: tuple[int, ...]
    rejected: Mapping[int, str]
    nbytes: int


Heard = Callable[[int, int], object]
"""Told how many clients have replied in the last exchange of a round, of how many."""


def run_round(
    stage: Stage, state: State, round_: int, engine: Engine, heard: Heard = lambda done, invited: None
) -> RoundResult:
    """Run one round of a stage: all its exchanges, one after another.

    A client that fails to reply once leaves the round, and so does one whose reply is of no use: a tensor or
    the loss is not finite, or the stage finds a fault with it (`Judge`). Where none is left, the round is
    over, and the server takes no step. Letters to clients that are not in the round are lost, and count as
    bytes.

    Raises:
        InvalidInputError: a letter in the last exchange, which no message follows that could bring it.
        AirmoeError: as the steps raise, with stage, round, exchange and client in front.
    """
    messages = _addressed(stage.opening(state, round_), {}, round_)
    invited, replies, total = set(messages), dict[int, Message](), 0
    rejected, epsilons = dict[int, str](), dict[int, float]()
    for name in stage.exchanges:
        exchange = Exchange(stage.name, round_, name)
        fault = partial(_heard_and_judged, epsilons, partial(_fault, stage, exchange, state))
        adds_up = stage if isinstance(stage, SumStage) and name in stage.sums else None
        if adds_up is not None and isinstance(engine, SumEngine):
            came = engine.carry_sum(exchange, messages, fault)
            if name == stage.exchanges[-1]:
                heard(len(came.replies), len(messages))
        else:
            told_of = heard if name == stage.exchanges[-1] else lambda done, invited: None
            came = _carried(engine, exchange, messages, fault, adds_up, told_of)
        total += came.nbytes
        rejected |= came.rejected
        replies = dict(came.replies)
        if not replies:
            break
        with telling(f"{exchange}, server"):
            if adds_up is not None:
                state, told = adds_up.sum_step(name, state, came.total, replies)
            else:
                state, told = stage.server_step(name, state, replies)
        messages = _addressed({client: told.get(client, Message()) for client in replies}, replies, round_)
    missing = tuple(sorted(invited - set(replies) - set(rejected)))
    return RoundResult(state, replies, epsilons, missing, rejected, total)


def _carried(
    engine: Engine,
    exchange: Exchange,
    messages: Mapping[int, Message],
    fault: Callable[[int, Message], str],
    adds_up: SumStage | None,
    heard: Heard,
) -> Summed:
    """Carry an exchange; keep the replies, or their sum where the server needs no more."""
    sums, replies, rejected = Sums(adds_up is not None and adds_up.by_samples), {}, {}
    total = sum(nbytes(message.tensors) for message in messages.values())
    if isinstance(engine, Relaying) and engine.relays:
        total += sum(nbytes(letter) for each in messages.values() for letter in each.letters.values())
    for done, (client, reply) in enumerate(engine.carry(exchange, messages), 1):
        total += nbytes(reply.tensors) + sum(map(nbytes, reply.letters.values()))
        found = fault(client, reply) or ("" if adds_up is None else sums.fault(reply))
        if found:
            rejected[client] = found
        elif adds_up is not None:
            sums.add(reply)
            replies[client] = replace(reply, tensors={})
        else:
            replies[client] = reply
        heard(done, len(messages))
    return Summed(sums.total, dict(sorted(replies.items())), rejected, total)


def _heard_and_judged(
    epsilons: dict[int, float], fault: Callable[[int, Message], str], client: int, reply: Message
) -> str:
    """Take note of the privacy that a reply has cost, of use or not; return its fault."""
    if "epsilon" in reply.numbers:
        epsilons[client] = reply.numbers["epsilon"]
    return fault(client, reply)


def _fault(stage: Stage, exchange: Exchange, state: State, client: int, reply: Message) -> str:
    """Return why a reply is of no use; empty if it is of use.

    Raises:
        InvalidInputError: a letter in the last exchange.
    """
    if reply.letters and exchange.name == stage.exchanges[-1]:
        with telling(f"{exchange}, client {client}"):
            raise InvalidInputError(
                "letters", f"for {sorted(reply.letters)}", "none in the last exchange of a round"
            )
    if not math.isfinite(loss := reply.numbers.get("loss", 0.0)):
        return f"the loss is {loss}"
    for tensors in (reply.tensors, *reply.letters.values()):
        if name := not_finite(tensors):
            return f"{name} is not finite"
    return stage.fault(exchange.name, state, reply) if isinstance(stage, Judge) else ""


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
