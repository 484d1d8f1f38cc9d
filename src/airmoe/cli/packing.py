"""``airmoe pack``: a client's folder in one file. It needs no PyTorch."""

from pathlib import Path
from typing import Annotated

import typer

from airmoe.cli.console import tell
from airmoe.cli.paths import expanded


def pack(
    client: Annotated[
        Path,
        typer.Argument(callback=expanded, help="clients/<id> with an identity (airmoe cert issue)."),
    ],
    out: Annotated[Path, typer.Argument(callback=expanded, help="File to make, named *.airmoe.")],
) -> None:
    """Pack a client's folder into one file with everything that its box needs.

    There, airmoe serve FILE unpacks it beside itself, once, and serves. The file has a private key in it:
    whoever reads it can be this node.
    """
    from airmoe.mesh.pack import pack as packed

    path = packed(client, out)
    tell(f"made {path} ({path.stat().st_size / 1e6:.1f} MB); it has a private key: bring it to its box alone")
