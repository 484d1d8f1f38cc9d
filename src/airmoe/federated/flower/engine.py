"""Engines over Flower: messages go through the SuperLink to nodes, and replies come back or are missed."""

from __future__ import annotations

import logging
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flwr.app import Message as FlowerMessage

from airmoe.errors import AirmoeError, FrameError
from airmoe.federated.exchange import Exchange, Message, State
from airmoe.federated.flower.attendance import Attendance, Node
from airmoe.federated.flower.content import framed, recorded
from airmoe.federated.flower.frame import packed, unpacked

if TYPE_CHECKING:
    from flwr.serverapp import Grid

_LOG = logging.getLogger(__name__)

KIND = "train"
"""The type of all messages between server and clients."""

POLL_S = 0.2
"""How long lies between two questions to the SuperLink."""


class TooFewClientsError(AirmoeError):
    """Fewer clients can be reached than a round needs."""


@dataclass(frozen=True)
class _Step:
    """A step that every client must have taken before it takes part in a later round."""

    part: str
    exchange: Exchange
    message: Message
    taken: set[int]


class FlowerReach:
    """Reaches the clients of a run over Flower's Grid, and knows which are there.

    A client whose reply is not there in time, is damaged or tells an error is missing in this round. It is
    asked again later (`airmoe.federated.flower.attendance`). A node that comes late takes part from the next
    round.

    Args:
        grid: of the ServerApp.
        clients: how many there are; the node registered as "client-3" is number 3.
        settings: what every client is told of the run, as its configuration; another text is another run.
        timeout_s: how long an exchange waits for replies.
        minimum: the fewest clients that begin a round.
        patience_s: how long a round waits for that many.
        now: the clock, seconds.
        sleep: waits as many seconds.
    """

    def __init__(
        self,
        grid: Grid,
        clients: int,
        settings: str,
        *,
        timeout_s: float,
        minimum: int = 1,
        patience_s: float = 600.0,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._grid, self._settings = grid, settings
        self._timeout_s, self._minimum, self._patience_s = timeout_s, minimum, patience_s
        self._now, self._sleep = now, sleep
        self._server = secrets.token_hex(8)  # this process: a node must know a round that is repeated
        self._attendance = Attendance(clients)
        self._round: tuple[str, int] | None = None
        self._replied = defaultdict[tuple[str, str], set[int]](set)
        self._steps = list[_Step]()

    def engine(self, part: str) -> FlowerEngine:
        """Return the engine of a part of the run; its name says what a node's participant takes part in."""
        return FlowerEngine(self, part)

    def ask_all(self) -> None:
        """Ask everybody who is there in the next exchange, whoever missed before."""
        self._attendance.forgive()

    def first_take(
        self, part: str, exchange: Exchange, message: Message, like: tuple[str, str] | None = None
    ) -> None:
        """From now on, let each client take a step before others, if it has not taken it.

        So a client that came too late for the exchange makes up for it.

        Args:
            part: of the step.
            exchange: of the step.
            message: what the client is told.
            like: part and exchange of a step that does as well; default the step itself.
        """
        taken = self._replied[like or (part, exchange.name)]
        self._steps.append(_Step(part, exchange, message, taken))

    def carry(
        self, part: str, exchange: Exchange, messages: Mapping[int, Message]
    ) -> Iterator[tuple[int, Message]]:
        """Send the messages; yield the replies that come in time, in the order of the clients' numbers.

        Raises:
            TooFewClientsError: a round would begin with fewer than the minimum.
        """
        begins = self._round != (exchange.stage, exchange.round_)
        if begins:
            self._round = (exchange.stage, exchange.round_)
            self._attendance.next_round()
        nodes = self._enough(exchange, messages, self._minimum if begins else 0)
        for step in self._steps if begins else ():
            late = {client: node for client, node in nodes.items() if client not in step.taken}
            made_up = dict(self._exchanged(step.part, step.exchange, dict.fromkeys(late, step.message), late))
            nodes = {c: node for c, node in nodes.items() if c not in late or c in made_up}
        yield from self._exchanged(part, exchange, {client: messages[client] for client in nodes}, nodes)

    def _enough(self, exchange: Exchange, messages: Mapping[int, Message], minimum: int) -> dict[int, Node]:
        """Return the nodes to send to, when there are as many as are needed."""
        deadline, told = self._now() + self._patience_s, False
        needed = min(minimum, len(messages))
        while True:
            listed = [
                Node(info.node_id, info.name, info.last_activated_at, info.online_until)
                for info in self._grid.get_nodes()
            ]
            nodes = self._attendance.invited(listed, messages, needed)
            if len(nodes) >= needed:
                return nodes
            if self._now() > deadline:
                there = ", ".join(map(str, nodes)) or "none"
                raise TooFewClientsError(
                    f"{exchange}: {len(nodes)} clients can be reached ({there}), and a round needs {needed}"
                )
            if not told:
                _LOG.warning("%s: waiting for %d clients; %d are there", exchange, needed, len(nodes))
                told = True
            self._sleep(POLL_S)

    def _exchanged(
        self, part: str, exchange: Exchange, messages: Mapping[int, Message], nodes: Mapping[int, Node]
    ) -> Iterator[tuple[int, Message]]:
        sent = self._sent(part, exchange, messages, nodes)
        deadline = self._now() + self._timeout_s
        for client, message_id in sent.items():
            reply = self._reply(message_id, deadline)
            try:
                if reply is None:
                    raise FrameError(f"no reply within {self._timeout_s:g} s")
                message = _read(reply)
            except FrameError as error:
                _LOG.warning("%s: client %d is missing: %s", exchange, client, error)
                self._attendance.missed(client, nodes[client])
                if reply is not None:  # it may fail because it has lost what it had
                    for taken in self._replied.values():
                        taken.discard(client)
                continue
            self._attendance.answered(client)
            self._replied[part, exchange.name].add(client)
            yield client, message

    def _sent(
        self, part: str, exchange: Exchange, messages: Mapping[int, Message], nodes: Mapping[int, Node]
    ) -> dict[int, str]:
        """Send to all; return by client the number under which Flower knows the message."""
        if not messages:
            return {}
        about: dict[str, str | int] = {
            "part": part,
            "stage": exchange.stage,
            "round": exchange.round_,
            "exchange": exchange.name,
            "settings": self._settings,
            "server": self._server,
        }
        outgoing = [
            FlowerMessage(
                recorded(packed({**about, "client": client}, message)),
                dst_node_id=nodes[client].node,
                message_type=KIND,
                ttl=self._timeout_s,
                group_id=str(exchange),
            )
            for client, message in messages.items()
        ]
        numbers = zip(messages, self._grid.push_messages(outgoing), strict=True)
        return {client: number for client, number in numbers if number is not None}

    def _reply(self, message_id: str, deadline: float) -> FlowerMessage | None:
        while True:
            late = self._now() > deadline
            for reply in self._grid.pull_messages([message_id]):
                return reply
            if late:
                return None
            self._sleep(POLL_S)


class FlowerEngine:
    """The engine of one part of a run; the states of clients stay at their nodes.

    Args:
        reach: reaches the clients.
        part: what a node's participant takes part in.
    """

    relays = True
    """Letters between clients pass the server: each of their bytes travels twice."""

    def __init__(self, reach: FlowerReach, part: str) -> None:
        self._reach, self._part = reach, part

    @property
    def states(self) -> Mapping[int, State]:
        """None: every node keeps its own."""
        return {}

    def restore(self, states: Mapping[int, State]) -> None:
        """Do nothing: every node has kept its own."""

    def carry(self, exchange: Exchange, messages: Mapping[int, Message]) -> Iterator[tuple[int, Message]]:
        """Send the messages; yield the replies that come in time, in the order of the clients' numbers.

        Raises:
            TooFewClientsError: a round would begin with fewer than the minimum.
        """
        return self._reach.carry(self._part, exchange, messages)


def _read(reply: FlowerMessage) -> Message:
    if reply.has_error():
        raise FrameError(f"Flower says {reply.error.reason or reply.error.code}")
    about, message = unpacked(framed(reply.content))
    if "error" in about:
        raise FrameError(f"it says {about['error']}")
    return message
