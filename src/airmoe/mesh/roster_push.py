"""Bringing a new roster to all who are in it."""

import queue
import time
from collections.abc import Sequence
from functools import partial

import zenoh

from airmoe.errors import IdentityError
from airmoe.files import AnyPath
from airmoe.mesh.identity import Identity
from airmoe.mesh.keys import roster_key
from airmoe.mesh.membership import Membership
from airmoe.mesh.queries import ask, refusal_of
from airmoe.mesh.roster import SignedRoster
from airmoe.mesh.roster_exchange import KNOWN, TAKEN
from airmoe.mesh.session import close_session, open_session

AGAIN_S = 0.5
"""How long to wait for an answer before a node is asked again: its link may only come about."""


def push_roster(
    identity: Identity, roster: SignedRoster, connect: Sequence[AnyPath] = (), timeout_s: float = 5.0
) -> dict[int, str]:
    """Bring a roster to each of its nodes; return what became of it there, by node.

    The roster of the identity itself is replaced, too.

    Args:
        identity: of whoever brings it, any node of the mesh.
        roster: signed by the authority.
        connect: addresses beside those of the roster.
        timeout_s: how long nodes may take to be found and to answer.

    Raises:
        IdentityError: the authority did not sign it, or a newer one is known here.
    """
    membership = Membership(identity)
    is_newer = roster.verified(membership.authority).number > identity.roster.number
    if not is_newer and roster.roster != identity.roster:
        raise IdentityError(
            f"the roster has number {roster.roster.number}; expected more than {identity.roster.number}"
        )
    session = open_session(connect=connect, membership=membership)
    try:
        told = _told(session, membership, roster, time.monotonic() + timeout_s)
        membership.take(roster)
        return told
    finally:
        close_session(session)


def _told(
    session: zenoh.Session, membership: Membership, roster: SignedRoster, end_s: float
) -> dict[int, str]:
    frame, name = roster.encoded(), membership.identity.name
    nodes = [member.node for member in roster.roster.members if member.serves]
    told = dict[int, str]()
    while (waiting := [node for node in nodes if node not in told]) and time.monotonic() < end_s:
        answers: queue.SimpleQueue[tuple[int, zenoh.Reply | None]] = queue.SimpleQueue()
        for node in waiting:
            arrived = partial(_arrived, answers, node)
            key = roster_key(roster.roster.mesh, node)
            ask(session, key, name, frame, AGAIN_S, arrived, f"node {node}")
        ended = 0
        while ended < len(waiting):
            node, reply = answers.get()
            ended += reply is None
            if reply is not None:
                told.setdefault(node, _in_words(reply))
        time.sleep(0.05)
    return {node: told.get(node, "not reached") for node in nodes}


def _arrived(
    answers: queue.SimpleQueue[tuple[int, zenoh.Reply | None]], node: int, reply: zenoh.Reply | None
) -> None:
    answers.put((node, reply))


def _in_words(reply: zenoh.Reply) -> str:
    if reply.ok is None:
        return f"refused: {refusal_of(reply)}"
    return {TAKEN: "taken", KNOWN: "known already"}.get(reply.ok.payload.to_bytes(), "not understood")
