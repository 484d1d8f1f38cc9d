"""Why no node was found: nothing listens, what listens is no node, or the nodes are of another model."""

import socket
from collections.abc import Sequence

import zenoh

from airmoe.files import AnyPath
from airmoe.manifest import Manifest
from airmoe.mesh.addresses import known, parse_address

TRIED_S = 1.0
"""How long an address may take to accept a connection, and nodes to say that they are alive."""


def why_none_is_found(session: zenoh.Session, connect: Sequence[AnyPath], manifest: Manifest) -> str:
    """Return in words what is wrong, as far as can be seen from here."""
    connect = known(connect).addresses
    others = sorted(
        {
            f"mesh {mesh!r}, model {model}"
            for mesh, model in _members(session)
            if (mesh, model) != (manifest.mesh, manifest.model_hash)
        }
    )
    if others:
        return f"the nodes that are there are of {'; of '.join(others)}"
    deaf = [address for address in connect if not _listens(address)]
    if deaf:
        return (
            f"nothing listens at {', '.join(deaf)}: the node has not started, has ended, or has another port"
        )
    if connect:
        return f"something listens at {', '.join(connect)}, and no node there is alive"
    return "the session knows of none"


def _members(session: zenoh.Session) -> set[tuple[str, str]]:
    """Return mesh and model of every node that says it is alive."""
    replies = session.liveliness().get("airmoe/**", timeout=TRIED_S)
    keys = [str(reply.ok.key_expr).split("/") for reply in replies if reply.ok is not None]
    return {(key[1], key[2]) for key in keys if len(key) > 2}


def _listens(address: str) -> bool:
    try:
        with socket.create_connection(parse_address(address), TRIED_S):
            return True
    except OSError:
        return False
