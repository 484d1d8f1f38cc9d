"""The engine that is one process: clients take their steps one after another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from airmoe.errors import telling
from airmoe.federated.exchange import Client, Exchange, Message, State


class Loop:
    """All clients in one process; an error in a step names stage, round, exchange and client.

    Args:
        clients: client i is the one with the number i.
    """

    def __init__(self, clients: Sequence[Client]) -> None:
        self._clients = clients
        self.states: dict[int, State] = {client: {} for client in range(len(clients))}

    def carry(self, exchange: Exchange, messages: Mapping[int, Message]) -> dict[int, Message]:
        """Let every client that has a message take its step; return the replies of all."""
        replies = {}
        for client, message in messages.items():
            with telling(f"{exchange}, client {client}"):
                self.states[client], replies[client] = self._clients[client].client_step(
                    exchange.name, self.states[client], message
                )
        return replies

    def restore(self, states: Mapping[int, State]) -> None:
        """Give the clients their states back; a client that has none begins anew."""
        self.states = {client: states.get(client, {}) for client in self.states}
