"""A stage whose result is a sum over clients: the same for every split, and for any order of the clients.

What one client added can be left out again by subtracting it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from airmoe.errors import InvalidInputError
from airmoe.federated.averaging import refuse_other_form
from airmoe.federated.exchange import Message, State


@dataclass(frozen=True)
class Summing:
    """A stage of one round, whose server adds up what clients reply with in the last exchange.

    Args:
        name: of the stage, for reports and checkpoints.
        clients: how many, numbered from 0.
        exchanges: the names of the exchanges; earlier ones serve letters between clients.
        told: what all clients are told first.
    """

    name: str
    clients: int
    exchanges: tuple[str, ...] = ("sum",)
    told: State = field(default_factory=dict)

    def opening(self, state: State, round_: int) -> dict[int, Message]:
        """Tell all clients what they need."""
        return dict.fromkeys(range(self.clients), Message(self.told))

    def server_step(
        self, exchange: str, state: State, replies: Mapping[int, Message]
    ) -> tuple[State, dict[int, Message]]:
        """Add up, after the last exchange."""
        return (total(replies) if exchange == self.exchanges[-1] else state), {}


def total(replies: Mapping[int, Message]) -> dict[str, torch.Tensor]:
    """Return the sums of the replies' tensors, float64, added in the order given.

    Raises:
        InvalidInputError: no replies, or tensors of a client that differ from the first one's in name, shape
            or type.
    """
    if not replies:
        raise InvalidInputError("replies", replies, "at least one to add up")
    first = next(iter(replies.values())).tensors
    sums = {name: torch.zeros_like(like, dtype=torch.float64) for name, like in first.items()}
    for client, reply in replies.items():
        refuse_other_form(client, reply.tensors, first)
        for name in sums:
            sums[name] += reply.tensors[name]
    return sums
