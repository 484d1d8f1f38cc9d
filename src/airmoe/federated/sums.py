"""Sums over clients, and a stage whose result is one: the same for every split and any order of clients.

What one client added can be left out again by subtracting it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from airmoe.federated.exchange import Message, State
from airmoe.federated.forms import Forms, fault_of_form, forms_of


class Sums:
    """The sums of replies' tensors, float64; ``by_samples`` counts each reply as often as it has samples."""

    def __init__(self, by_samples: bool) -> None:
        self._by_samples = by_samples
        self._forms: Forms = {}
        self.total: dict[str, Tensor] = {}

    def fault(self, reply: Message) -> str:
        """Return how a reply's form differs from that of the first one; empty if it does not."""
        return fault_of_form(reply.tensors, self._forms) if self._forms else ""

    def add(self, reply: Message) -> None:
        """Add a reply."""
        if not self.total:
            self._forms = forms_of(reply.tensors)
            self.total = {
                name: torch.zeros_like(like, dtype=torch.complex128 if like.is_complex() else torch.float64)
                for name, like in reply.tensors.items()
            }
        # PyTorch takes no boolean as a weight.
        weight = reply.numbers["samples"] + 0 if self._by_samples else 1
        for name, tensor in reply.tensors.items():
            self.total[name].add_(tensor, alpha=weight)


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

    by_samples = False

    @property
    def sums(self) -> tuple[str, ...]:
        """The last exchange."""
        return self.exchanges[-1:]

    def opening(self, state: State, round_: int) -> dict[int, Message]:
        """Tell all clients what they need."""
        return dict.fromkeys(range(self.clients), Message(self.told))

    def server_step(
        self, exchange: str, state: State, replies: Mapping[int, Message]
    ) -> tuple[State, dict[int, Message]]:
        """Tell nobody anything between the exchanges."""
        return state, {}

    def sum_step(
        self, exchange: str, state: State, total: State, replies: Mapping[int, Message]
    ) -> tuple[State, dict[int, Message]]:
        """Return the sums, float64."""
        return total, {}
