"""Federated rounds in one process: broadcast, local update, average. The clients know nothing of this loop.

A client is anything with ``update`` (see `Client`); another engine can call the same clients.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from airmoe.errors import TrainingDivergedError
from airmoe.runs.checkpoint import Checkpoint, MetricsRow

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class ClientUpdate:
    """What a client uploads: its weights, how many samples stand behind them, and its mean loss.

    ``query_bytes`` is what it exchanged with other clients meanwhile.
    """

    state: dict[str, Tensor]
    samples: int
    loss: float
    query_bytes: int = 0


class Client(Protocol):
    """One participant of federated training."""

    def update(self, state: State, round_: int) -> ClientUpdate:
        """Start from the global ``state``, train on local data, return the result."""
        ...

    def memory(self) -> dict[str, Tensor]:
        """Return what the client must remember from round to round (for checkpoints)."""
        ...

    def remember(self, memory: State) -> None:
        """Take back what `memory` returned."""
        ...


def nbytes(state: State) -> int:
    """Return the bytes of all tensors."""
    return sum(tensor.nbytes for tensor in state.values())


def average_states(updates: Sequence[ClientUpdate]) -> dict[str, Tensor]:
    """Return the sample-weighted mean of the updates, in the order given, summed in float64 (FedAvg)."""
    total = sum(update.samples for update in updates)
    mean = {}
    for name, like in updates[0].state.items():
        accumulated = torch.zeros_like(like, dtype=torch.float64)
        for update in updates:
            accumulated.add_(update.state[name], alpha=update.samples / total)
        mean[name] = accumulated.to(like.dtype)
    return mean


def federate(
    stage: str,
    state: State,
    clients: Sequence[Client],
    rounds: int,
    *,
    checkpoint: Checkpoint | None = None,
    evaluate: Callable[[State], dict[str, float]] | None = None,
    evaluate_every: int = 5,
    report: Callable[[MetricsRow], None] = lambda row: None,
) -> tuple[dict[str, Tensor], list[MetricsRow]]:
    """Run rounds of federated averaging over all clients and return the final weights and a row per round.

    A row's ``bytes`` is everything that crossed in the round, over all clients and both directions.

    Args:
        stage: a name, for reports and checkpoints.
        state: the weights to begin with.
        clients: in client-id order, which is the order of the average.
        rounds: how many.
        checkpoint: saved after every round; what it holds already is taken up first.
        evaluate: measures global weights; called every ``evaluate_every`` rounds and after the last.
        report: called with each new row.

    Raises:
        TrainingDivergedError: a loss or weight is not finite; the last checkpoint is the last good one.
    """
    # Copies: clients may train in place the very tensors that they were given as the initial state.
    current, rows = {name: tensor.clone() for name, tensor in state.items()}, list[MetricsRow]()
    if checkpoint is not None and (saved := checkpoint.load(stage)) is not None:
        current, memories, rows = saved
        for index, client in enumerate(clients):
            client.remember(memories.get(index, {}))
    for round_ in range(len(rows), rounds):
        updates = [client.update(current, round_) for client in clients]
        exchanged = sum(nbytes(current) + nbytes(u.state) + u.query_bytes for u in updates)
        current = average_states(updates)
        loss = sum(u.loss * u.samples for u in updates) / sum(u.samples for u in updates)
        if not math.isfinite(loss):
            raise TrainingDivergedError(f"{stage}: the loss is {loss} in round {round_ + 1} of {rounds}")
        if not all(bool(tensor.isfinite().all()) for tensor in current.values()):
            raise TrainingDivergedError(f"{stage}: a weight is not finite in round {round_ + 1} of {rounds}")
        row: MetricsRow = {"stage": stage, "round": round_ + 1, "loss": loss, "bytes": exchanged}
        if evaluate is not None and ((round_ + 1) % evaluate_every == 0 or round_ + 1 == rounds):
            row.update(evaluate(current))
        rows.append(row)
        if checkpoint is not None:
            memories = {index: client.memory() for index, client in enumerate(clients)}
            checkpoint.save(stage, current, memories, rows)
        report(row)
    return current, rows
