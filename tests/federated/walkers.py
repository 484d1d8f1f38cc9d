"""Clients that only walk: each adds its step to the weights of the server, in a workspace that all share."""

from collections.abc import Iterator

import torch
from torch import nn

from airmoe.federated import Exchange, Loop, Message, State


class Walker:
    """Adds its step in place, as training does; its state counts the steps that it took."""

    def __init__(self, workspace: nn.Linear, step: float, seen: list[float]) -> None:
        self.workspace, self.step, self.seen = workspace, step, seen

    def client_step(self, exchange: str, state: State, message: Message) -> tuple[State, Message]:
        self.workspace.load_state_dict(message.tensors)
        self.seen.append(float(self.workspace.bias.detach()))
        with torch.no_grad():
            self.workspace.bias += self.step
        trained = {name: tensor.clone() for name, tensor in self.workspace.state_dict().items()}
        steps = state.get("steps", torch.zeros(())) + 1
        return {"steps": steps}, Message(trained, {"samples": 1, "loss": self.step})


def walkers(steps: list[float]) -> tuple[nn.Linear, list[Walker], list[float]]:
    workspace, seen = nn.Linear(1, 1), list[float]()
    nn.init.zeros_(workspace.weight)
    nn.init.zeros_(workspace.bias)
    return workspace, [Walker(workspace, step, seen) for step in steps], seen


class Losing(Loop):
    """A loop whose clients sometimes do not reply: ``lost`` is a set of (round, exchange, client)."""

    def __init__(self, clients: list[Walker], lost: set[tuple[int, str, int]]) -> None:
        super().__init__(clients)
        self.lost = lost

    def carry(self, exchange: Exchange, messages: dict[int, Message]) -> Iterator[tuple[int, Message]]:  # type: ignore[override]
        reached = {
            client: message
            for client, message in messages.items()
            if (exchange.round_, exchange.name, client) not in self.lost
        }
        return super().carry(exchange, reached)
