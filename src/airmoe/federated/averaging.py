"""FedAvg: the server averages the weights that clients reply with at the end of a round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from airmoe.errors import InvalidInputError
from airmoe.federated.exchange import Message, State


@dataclass(frozen=True)
class Averaging:
    """A stage whose server sends its weights, and replaces them by the mean of those that come back.

    Args:
        name: of the stage, for reports and checkpoints.
        clients: how many, numbered from 0; all take part in every round.
        exchanges: the names of a round's exchanges. Weights come back in the last; earlier ones serve letters
            between clients.
    """

    name: str
    clients: int
    exchanges: tuple[str, ...] = ("train",)

    def opening(self, state: State, round_: int) -> dict[int, Message]:
        """Send the weights to all clients."""
        return dict.fromkeys(range(self.clients), Message(state))

    def server_step(
        self, exchange: str, state: State, replies: Mapping[int, Message]
    ) -> tuple[State, dict[int, Message]]:
        """Take the mean of the weights that came back; keep the old ones where none did."""
        trained = {client: reply for client, reply in replies.items() if reply.numbers.get("samples")}
        if exchange != self.exchanges[-1] or not trained:
            return state, {}
        return average(trained), {}


def average(replies: Mapping[int, Message]) -> dict[str, torch.Tensor]:
    """Return the mean of the replies' tensors, weighted by ``samples``.

    The sum is taken in float64, in the order given.

    Raises:
        InvalidInputError: no replies.
    """
    if not replies:
        raise InvalidInputError("replies", replies, "at least one to take the mean of")
    total = sum(reply.numbers["samples"] for reply in replies.values())
    first, mean = next(iter(replies.values())), {}
    for name, like in first.tensors.items():
        accumulated = torch.zeros_like(like, dtype=torch.float64)
        for reply in replies.values():
            accumulated.add_(reply.tensors[name], alpha=reply.numbers["samples"] / total)
        mean[name] = accumulated.to(like.dtype)
    return mean
