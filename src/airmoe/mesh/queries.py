"""Both ends of a Zenoh query: serving, asking without holding up the caller, refusing with a reason."""

import re
import struct
from _thread import start_new_thread
from collections.abc import Callable

import zenoh

from airmoe.mesh.identity import Identity
from airmoe.mesh.keys import ANYBODY, asked_key, asker_in
from airmoe.mesh.log import PEER_NAME_LENGTH, about, about_node, is_counted, mesh_log

MAX_REASON_BYTES = 200
BUFFERED_BYTES = 32 << 10
REQUEST_ID_BYTES = 8

_OWN_TIME = struct.Struct("<I")
"""How a reply tells how long its request was at the node: microseconds."""


def asker_name(session: zenoh.Session, node: int, identity: Identity | None = None) -> str:
    """Return what a session of a node calls itself when it asks: with an identity, by its only name."""
    return f"{node}-{session.zid()}" if identity is None else identity.name


def node_of_asker(asker: str) -> int | None:
    """Return the node that an asker says it is at; None where its name tells none."""
    found = re.fullmatch(r"(?:node-)?([0-9]{1,7})(?:-[0-9a-f]+)?", asker)
    return None if found is None else int(found[1])


def anybody(name: str) -> bool:
    """Admit everybody, as a session without identity does."""
    return True


def serve(
    session: zenoh.Session,
    key: str,
    accept: Callable[[zenoh.Query, str], None],
    admits: Callable[[str], bool] = anybody,
) -> zenoh.Queryable[None]:
    """Have ``accept`` get each request under a key, and who asks. It runs on the network's own thread: it
    must return at once.

    A question that is meant for several at once gets no answer from here, and one of somebody who is not
    admitted is refused.
    """

    def arrived(query: zenoh.Query) -> None:
        asker = asker_in(str(query.key_expr))
        if asker is None:
            query.drop()
        elif admits(asker):
            accept(query, asker)
        else:
            refuse(query, "the roster does not have who asks")

    # By default each request would start a thread.
    direct = zenoh.handlers.Callback(arrived, indirect=False)
    return session.declare_queryable(asked_key(key, ANYBODY), direct)


def withdrawals(
    session: zenoh.Session, key: str, withdrawn: Callable[[zenoh.Sample], None]
) -> zenoh.Subscriber[None]:
    """Have ``withdrawn`` told, on the network's own thread, which requests under a key nobody waits for."""
    return session.declare_subscriber(
        asked_key(key, ANYBODY), zenoh.handlers.Callback(withdrawn, indirect=False)
    )


def ask(
    session: zenoh.Session,
    key: str,
    asker: str,
    frame: bytes,
    timeout_s: float,
    arrived: Callable[[zenoh.Reply | None], None],
    whom: str,
) -> None:
    """Send a query; ``arrived`` gets each reply, and None when no more will come, on the network's thread.

    Each reply is handed on as it comes: by default Zenoh would hold it back until all that serve the key had
    answered or the time was over, and keep the last one alone. The request goes to all that serve the key: by
    default it would go to one alone, where that claims to be complete.

    A frozen node stops reading, and a large send to it then blocks for seconds. So another thread sends a
    large frame. This thread sends a small one: it fits into the buffers between two nodes, and a thread costs
    more than the send.
    """

    def send() -> None:
        try:
            session.get(
                asked_key(key, asker),
                zenoh.handlers.Callback(arrived, lambda: arrived(None), indirect=False),
                payload=frame,
                timeout=timeout_s,
                target=zenoh.QueryTarget.ALL,
                congestion_control=zenoh.CongestionControl.BLOCK,
                consolidation=zenoh.ConsolidationMode.NONE,
                express=True,
            )
        except zenoh.ZError as error:
            mesh_log.warning("%s cannot be asked: %s", whom, error, extra=about_node(key.rpartition("/")[2]))
            arrived(None)

    if len(frame) <= BUFFERED_BYTES:
        send()
    else:
        # `threading.Thread` would have this thread wait until the other one runs.
        start_new_thread(send, ())


def withdraw(session: zenoh.Session, key: str, asker: str, request_id: int) -> None:
    """Tell whoever serves a key that nobody waits for a request any longer."""
    try:
        session.put(
            asked_key(key, asker),
            request_id.to_bytes(REQUEST_ID_BYTES, "little"),
            congestion_control=zenoh.CongestionControl.DROP,
            express=True,
        )
    except zenoh.ZError as error:
        node = key.rpartition("/")[2]
        mesh_log.info("a request to node %s could not be withdrawn: %s", node, error, extra=about_node(node))


def who_asks(query: zenoh.Query) -> str:
    """Return what the log calls who asks: the beginning of the name that it gave itself."""
    return (asker_in(str(query.key_expr)) or "somebody")[:PEER_NAME_LENGTH]


def own_time(took_s: float) -> bytes:
    """Return what goes with a reply: how long the request was at the node."""
    return _OWN_TIME.pack(min(int(took_s * 1e6), 2**32 - 1))


def own_time_in(reply: zenoh.Sample) -> float:
    """Return the seconds that a node says a request was there; 0 where it says nothing."""
    told = b"" if reply.attachment is None else reply.attachment.to_bytes()
    return float(_OWN_TIME.unpack(told)[0]) / 1e6 if len(told) == _OWN_TIME.size else 0.0


def reply_to(query: zenoh.Query, data: bytes, took_s: float = 0.0) -> None:
    """Answer a query, and tell for how many seconds it was here.

    It goes out at once, as a request does: by default Zenoh holds a small one back for up to a
    millisecond, in case another follows.

    Raises:
        zenoh.ZError: it cannot be sent.
    """
    query.reply(query.key_expr, data, attachment=own_time(took_s), express=True)
    query.drop()


def refuse(query: zenoh.Query, reason: str) -> None:
    """Answer a query with the reason for the refusal, and log it."""
    peer, kind = who_asks(query), "refused a request of %s: %s"
    if not is_counted(peer, kind):
        mesh_log.warning(kind, peer, reason, extra=about(peer))
    try:
        query.reply_err(reason.encode())
        query.drop()
    except zenoh.ZError as error:  # whoever asked is gone
        mesh_log.warning("%s did not get the refusal: %s", peer, error, extra=about(peer))


def refusal_of(reply: zenoh.Reply) -> str:
    """Return the reason in a reply that refuses, cut to a line's length."""
    reason = reply.err.payload.to_bytes()[:MAX_REASON_BYTES] if reply.err else b"no reason given"
    return reason.decode(errors="replace")
