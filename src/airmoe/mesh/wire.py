"""The way from a client to its nodes: what goes over it is measured, and may be made slower or lost."""

import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field

import zenoh

from airmoe.links import EmulatedLinks
from airmoe.mesh.air import Air, Arrived
from airmoe.mesh.ending import is_told_the_end
from airmoe.mesh.link_meter import LinkMeter
from airmoe.mesh.queries import REQUEST_ID_BYTES, ask, own_time_in, withdraw


@dataclass(eq=False)
class Message:
    """A message to a node, and what became of it.

    Attributes:
        node: whom it was sent to.
        key: what it asks.
        size: bytes.
        timeout_s: how long answers may take.
        sent_s, withdrawn_s: when, by the monotonic clock.
        is_answered: whether anything came back.
    """

    node: int
    key: str
    size: int
    timeout_s: float
    sent_s: float = field(default_factory=time.monotonic)
    withdrawn_s: float | None = None
    is_answered: bool = False


class Wire:
    """Sends a client's messages, measures the links that they go over, and emulates others where told.

    ``meter`` knows what the links give.

    Args:
        session: an open Zenoh session.
        asker: what the client calls itself.
        here: its node.
        emulated: links that messages are to go over, rather than as fast as they can.
    """

    def __init__(
        self, session: zenoh.Session, asker: str, here: int, emulated: EmulatedLinks | None = None
    ) -> None:
        self._session, self._asker, self._here = session, asker, here
        self.meter = LinkMeter()
        self._open, self._counting = 0, threading.Lock()
        self._air = None if emulated is None else Air(emulated)
        is_told_the_end(self)  # whose session somebody else opened, and may never close

    @property
    def is_idle(self) -> bool:
        """Whether no message waits for its answer."""
        return not self._open

    def _count(self, more: int) -> None:
        with self._counting:
            self._open += more

    def ask(self, node: int, key: str, data: bytes, timeout_s: float, arrived: Arrived, whom: str) -> Message:
        """Send a message to a node, as `airmoe.mesh.queries.ask` does."""
        message = Message(node, key, len(data), timeout_s)

        def came(reply: zenoh.Reply | None) -> None:
            if reply is None:
                self._count(-1)
            self._learn(message, reply)
            arrived(reply)

        def send() -> None:
            heard = came if self._air is None else self._air.arriving(node, self._here, came)
            ask(self._session, key, self._asker, data, timeout_s, heard, whom)

        self._count(1)
        if self._air is None:
            send()
        elif not self._air.send(self._here, node, 8 * len(data), send):
            self._air.later(message.sent_s + timeout_s, lambda: came(None))
        return message

    def _learn(self, message: Message, reply: zenoh.Reply | None) -> None:
        took_s = time.monotonic() - message.sent_s
        if reply is not None:
            message.is_answered = True
            if reply.ok is not None:
                on_link_s = max(took_s - own_time_in(reply.ok), 0.0)  # it cannot have been there for longer
                self.meter.answered(message.node, message.size, len(reply.ok.payload), on_link_s)
            return
        if message.is_answered:
            return
        self.meter.unanswered(message.node)
        # A withdrawal comes behind its message. Where the end comes soon after it, the node was slow.
        before_s = took_s if message.withdrawn_s is None else message.withdrawn_s - message.sent_s
        if took_s >= message.timeout_s or took_s > 2 * before_s:
            self.meter.held_up(message.node, message.size, took_s)

    def withdraw(self, message: Message, request_id: int) -> None:
        """Tell whoever was sent a message that nobody waits for its answer any longer."""
        message.withdrawn_s = time.monotonic()

        def send() -> None:
            withdraw(self._session, message.key, self._asker, request_id)

        if self._air is None:
            send()
        else:
            self._air.send(self._here, message.node, 8 * REQUEST_ID_BYTES, send)

    def end(self) -> None:
        """Close the session where answers may come, as the process ends."""
        if self._open:
            with suppress(zenoh.ZError, RuntimeError):
                self._session.close()

    def close(self) -> None:
        """Send no more of what is held back."""
        if self._air is not None:
            self._air.close()
