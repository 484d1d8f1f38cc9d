"""The engine that is one process: clients take their steps one after another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from airmoe.errors import InvalidInputError, telling
from airmoe.federated.exchange import Client, Exchange, Message, State, copied


class Loop:
    """All clients in one process; an error in a step names stage, round, exchange and client.

    Messages are copied on their way, as by a network. So a client may train in the tensors that it was sent,
    and reply with those that it goes on training in.

    Args:
        clients: client i is the one with the number i.
    """

    def __init__(self, clients: Sequence[Client]) -> None:
        self._clients = clients
        self.states: dict[int, State] = {client: {} for client in range(len(clients))}

    def carry(self, exchange: Exchange, messages: Mapping[int, Message]) -> Iterator[tuple[int, Message]]:
        """Let every client that has a message take its step, when its reply is asked for.

        Raises:
            InvalidInputError: a message is for a client that there is not.
        """
        for client, message in messages.items():
            if client not in self.states:
                expected = f"one of the {len(self.states)} clients of this loop, from 0"
                raise InvalidInputError(f"{exchange}: client", client, expected)
            with telling(f"{exchange}, client {client}"):
                self.states[client], reply = self._clients[client].client_step(
                    exchange.name, self.states[client], _copied(message)
                )
            yield client, _copied(reply)

    def restore(self, states: Mapping[int, State]) -> None:
        """Give the clients their states back; a client that has none begins anew."""
        self.states = {client: states.get(client, {}) for client in self.states}


def _copied(message: Message) -> Message:
    letters = {client: copied(letter) for client, letter in message.letters.items()}
    return replace(message, tensors=copied(message.tensors), letters=letters)
