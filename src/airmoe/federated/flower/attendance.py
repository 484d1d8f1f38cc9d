"""Who takes part: which clients can be reached, and when one that did not answer is asked again.

A node's name, given when its key was registered, tells its client's number. So no node passes for another.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Container, Iterable
from dataclasses import dataclass

_LOG = logging.getLogger(__name__)

MOST_ROUNDS_OUT = 8
"""A client that missed time and again is left out of at most so many rounds before it is asked again."""


def name_of_client(client: int) -> str:
    """Return the name under which the node of a client is registered."""
    return f"client-{client}"


@dataclass(frozen=True)
class Node:
    """A node as the SuperLink lists it.

    Args:
        node: the number that the SuperLink gave it.
        name: the one it was registered under.
        active_since: when its process last came, as text.
        online_until: the second until which its last sign of life counts.
    """

    node: int
    name: str
    active_since: str
    online_until: float


@dataclass
class _Absence:
    """What is known of a client when it missed."""

    node: Node
    misses: int
    back_in_round: int


class Attendance:
    """The clients that are invited to a round.

    A client that did not answer in time sits out 1 round, then 2, 4 and at most `MOST_ROUNDS_OUT`. It is
    asked again only if it gave a sign of life since. One whose process began anew is asked at once.

    Args:
        clients: how many there are; nodes of other names are left aside.
    """

    def __init__(self, clients: int) -> None:
        self._clients = clients
        self._absent: dict[int, _Absence] = {}
        self._round = 0
        self._told: set[str] = set()

    def next_round(self) -> None:
        """Count a round."""
        self._round += 1

    def invited(
        self, nodes: Iterable[Node], among: Container[int] | None = None, at_least: int = 0
    ) -> dict[int, Node]:
        """Return by client, ascending, the nodes to ask now.

        Where these are too few, all that are there are asked, however often they missed.

        Args:
            nodes: those that the SuperLink says are there. Of two for a client, the later one counts.
            among: the clients that are wanted; None for all.
            at_least: how many of them are needed.
        """
        latest: dict[int, Node] = {}
        for node in nodes:
            match = re.fullmatch(r"client-(0|[1-9]\d*)", node.name)
            if match is None or int(match[1]) >= self._clients:
                if node.name not in self._told:
                    self._told.add(node.name)
                    expected = f"{name_of_client(0)} to {name_of_client(self._clients - 1)}"
                    _LOG.warning("A node named %r takes no part: expected %s", node.name, expected)
                continue
            client = int(match[1])
            if client not in latest or latest[client].active_since < node.active_since:
                latest[client] = node
        there = {client: latest[client] for client in sorted(latest) if among is None or client in among}
        may = {client: node for client, node in there.items() if self._may(client, node)}
        return may if len(may) >= at_least else there

    def missed(self, client: int, node: Node) -> None:
        """Take note that a client did not answer in time."""
        misses = self._absent[client].misses + 1 if client in self._absent else 1
        out = min(2 ** (misses - 1), MOST_ROUNDS_OUT)
        self._absent[client] = _Absence(node, misses, self._round + out + 1)

    def forgive(self) -> None:
        """Forget who missed."""
        self._absent.clear()

    def answered(self, client: int) -> None:
        """Take note that a client answered."""
        self._absent.pop(client, None)

    def _may(self, client: int, node: Node) -> bool:
        absence = self._absent.get(client)
        if absence is None:
            return True
        if (node.node, node.active_since) != (absence.node.node, absence.node.active_since):
            return True
        alive = node.online_until > absence.node.online_until
        return alive and self._round >= absence.back_in_round
