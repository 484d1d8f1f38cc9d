"""Why no node was found: nothing listens, it refuses us or is no node, or the nodes are of another model."""

from collections.abc import Sequence

import zenoh

from airmoe.files import AnyPath
from airmoe.manifest import Manifest
from airmoe.mesh.addresses import Protocol, known
from airmoe.mesh.handshake import DEAF, why_not_linked
from airmoe.mesh.identity import Identity
from airmoe.mesh.keys import REPORT

TRIED_S = 1.0
"""How long nodes may take to say that they are alive."""


def why_none_is_found(
    session: zenoh.Session,
    connect: Sequence[AnyPath],
    manifest: Manifest,
    identity: Identity | None = None,
) -> str:
    """Return in words what is wrong, as far as can be seen from here."""
    protocol: Protocol = "tcp" if identity is None else "tls"
    addresses = list(known(connect, protocol, anywhere=identity is not None).addresses)
    if identity is not None:
        own = identity.member.addresses
        addresses += [each for each in identity.roster.addresses if each not in (*addresses, *own)]
    others = sorted(
        {
            f"mesh {mesh!r}, model {model}"
            for mesh, model in _members(session, "airmoe" if identity is None else f"airmoe/{manifest.mesh}")
            if (mesh, model) != (manifest.mesh, manifest.model_hash)
        }
    )
    if others:
        return f"the nodes that are there are of {'; of '.join(others)}"
    why_of = {address: why_not_linked(address, identity) for address in addresses}
    deaf = [address for address, why in why_of.items() if why == DEAF]
    if deaf:
        return (
            f"nothing listens at {', '.join(deaf)}: the node has not started, has ended, or has another port"
        )
    for address, why in why_of.items():
        if why:
            return f"{address} {why}"
    if addresses:
        return f"something listens at {', '.join(addresses)}, and no node there is alive"
    return "the session knows of none"


def _members(session: zenoh.Session, below: str) -> set[tuple[str, str]]:
    """Return mesh and model of every node that says it is alive."""
    replies = session.liveliness().get(f"{below}/**", timeout=TRIED_S)
    keys = [str(reply.ok.key_expr).split("/") for reply in replies if reply.ok is not None]
    return {(key[1], key[2]) for key in keys if len(key) > 3 and key[2] != REPORT}
