"""Who a command is on a mesh: the options, and what is said about them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from airmoe.cli.paths import expanded
from airmoe.errors import InvalidInputError

if TYPE_CHECKING:
    from airmoe.mesh.identity import Identity

UNAUTHENTICATED = "unauthenticated: anyone on this machine may ask and answer; loopback only"
MUTUAL = "mutual TLS"

IdentityFolder = Annotated[
    Path | None,
    typer.Option(
        "--identity",
        callback=expanded,
        help="Folder with node.pem, node.key, authority.pem and roster.json. [identity/ in the client's "
        "folder, as airmoe cert issue makes it; else one of its run for this machine alone, which is made "
        "where there is none]",
    ),
]
Insecure = Annotated[
    bool,
    typer.Option(
        "--insecure",
        help="No identity and no TLS: anyone on this machine may ask and answer, nobody else. Nodes and "
        "those who ask must agree on it.",
    ),
]


def identity_for(folder: Path, identity: Path | None, insecure: bool) -> "Identity | None":
    """Return who a client's folder is on its mesh; None without TLS.

    Raises:
        IdentityError: it has no identity, or one that is not right.
        InvalidInputError: both options.
    """
    from airmoe.mesh.identity import read_identity
    from airmoe.mesh.local_identities import local_identity

    if insecure and identity is not None:
        raise InvalidInputError("identity", str(identity), "none beside --insecure")
    if insecure:
        return None
    return local_identity(folder) if identity is None else read_identity(identity)


def secured_by(identity: "Identity | None") -> str:
    """Return in a line who may ask and answer."""
    if identity is None:
        return UNAUTHENTICATED
    count = len(identity.roster.members)
    return (
        f"{MUTUAL} as {identity.name}, one of {count} in roster {identity.roster.number}; "
        f"the certificate holds until {identity.ends:%Y-%m-%d}"
    )


def refuse_nowhere(connect: Sequence[str], identity: "Identity | None") -> None:
    """Refuse to ask where neither the command nor the roster says where nodes are.

    Raises:
        InvalidInputError: no address is known.
    """
    if not connect and not (identity is not None and identity.roster.addresses):
        expected = "--connect HOST:PORT of a node, as airmoe serve says it"
        if identity is not None:
            expected += ": the roster has no addresses"
        raise InvalidInputError("connect", None, expected)
