"""Both ends of a Zenoh query: asking without holding up the caller, refusing with a reason."""

import logging
import threading
from collections.abc import Callable

import zenoh

_log = logging.getLogger("airmoe.mesh")

MAX_REASON_BYTES = 200
BUFFERED_BYTES = 32 << 10


def ask(
    session: zenoh.Session,
    key: str,
    frame: bytes,
    timeout_s: float,
    arrived: Callable[[zenoh.Reply | None], None],
    whom: str,
) -> None:
    """Send a query; ``arrived`` gets each reply, and None when no more will come, on other threads.

    A frozen node stops reading, and a large send to it then blocks for seconds. So another thread sends a
    large frame. This thread sends a small one: it fits into the buffers between two nodes, and a thread costs
    more than the send.
    """

    def send() -> None:
        try:
            session.get(
                key,
                zenoh.handlers.Callback(arrived, lambda: arrived(None)),
                payload=frame,
                timeout=timeout_s,
                congestion_control=zenoh.CongestionControl.BLOCK,
            )
        except zenoh.ZError as error:
            _log.warning("%s cannot be asked: %s", whom, error)
            arrived(None)

    if len(frame) <= BUFFERED_BYTES:
        send()
    else:
        threading.Thread(target=send, name=f"airmoe request to {whom}").start()


def refuse(query: zenoh.Query, reason: str) -> None:
    """Answer a query with the reason for the refusal, and log it."""
    _log.warning("refused a request: %s", reason)
    try:
        query.reply_err(reason.encode())
        query.drop()
    except zenoh.ZError as error:  # whoever asked is gone
        _log.warning("the refusal could not be sent: %s", error)


def refusal_of(reply: zenoh.Reply) -> str:
    """Return the reason in a reply that refuses, cut to a line's length."""
    reason = reply.err.payload.to_bytes()[:MAX_REASON_BYTES] if reply.err else b"no reason given"
    return reason.decode(errors="replace")
