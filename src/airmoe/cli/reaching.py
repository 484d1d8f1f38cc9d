"""A mesh as a command reaches it that looks at all of its nodes."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from airmoe.checks import number_within
from airmoe.cli.identity_options import identity_for, refuse_nowhere, secured_by
from airmoe.cli.paths import client_folder

if TYPE_CHECKING:
    from airmoe.mesh.layers import MeshLayers

LONGEST_S = 3600.0

ClientFolder = Annotated[
    Path,
    typer.Argument(callback=client_folder, help="clients/<id>, clients/server or a pack of one."),
]


@contextmanager
def reached_mesh(
    client: Path, connect: Sequence[str], timeout_s: float, identity: Path | None, insecure: bool
) -> Iterator[tuple["MeshLayers", str]]:
    """Yield all layers of a client's mesh, once all nodes are found or the time is over, and who may ask.

    Raises:
        InvalidInputError: nothing says where nodes are, or a number is out of range.
        IdentityError: the client has no identity, or one that is not right.
    """
    from airmoe.manifest import read_manifest
    from airmoe.mesh.layers import MeshLayers

    number_within("timeout_s", timeout_s, 0, LONGEST_S)
    manifest, known = read_manifest(client), identity_for(client, identity, insecure)
    refuse_nowhere(connect, known)
    numbers = [layer.layer for layer in manifest.layers]
    with closing(MeshLayers(client, manifest, numbers, connect, identity=known)) as mesh:
        mesh.wait_for_all(timeout_s)
        yield mesh, secured_by(known)
