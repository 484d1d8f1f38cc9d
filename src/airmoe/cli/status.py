"""``airmoe status``: whether every expert of a mesh answers. It needs no PyTorch."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from airmoe.checks import number_within
from airmoe.cli.console import tell
from airmoe.cli.identity_options import (
    IdentityFolder,
    Insecure,
    identity_for,
    refuse_nowhere,
    secured_by,
)
from airmoe.cli.logs import LogOption, log_as
from airmoe.cli.paths import client_folder
from airmoe.cli.serving import Connect

if TYPE_CHECKING:
    from airmoe.mesh.roll_call import RollCall

NOT_ALL = 1
"""Exit status where an expert does not answer."""

LONGEST_S = 3600.0


def status(
    client: Annotated[
        Path,
        typer.Argument(callback=client_folder, help="clients/<id>, clients/server or a pack of one."),
    ],
    connect: Connect = [],  # noqa: B006 (Typer copies it)
    timeout_s: Annotated[
        float, typer.Option(help="Seconds for nodes to be found, and again for each layer's answers.")
    ] = 3.0,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print a JSON object per expert and node, one a line."),
    ] = False,
    identity: IdentityFolder = None,
    insecure: Insecure = False,
    log: LogOption = "short",
) -> None:
    """Ask every expert of a mesh about one item, at every node that serves it. Needs no PyTorch.

    Exit status: 0 if all answer, 1 if one does not, 2 if the input is wrong. Health checks can use it.
    """
    from airmoe.manifest import read_manifest
    from airmoe.mesh.layers import MeshLayers
    from airmoe.mesh.roll_call import call_roll

    log_as(log)
    number_within("timeout_s", timeout_s, 0, LONGEST_S)
    manifest, known = read_manifest(client), identity_for(client, identity, insecure)
    refuse_nowhere(connect, known)
    numbers = [layer.layer for layer in manifest.layers]
    mesh = MeshLayers(client, manifest, numbers, connect, identity=known)
    try:
        mesh.wait_for_all(timeout_s)
        heard = call_roll(mesh, timeout_s)
    finally:
        mesh.close()
    if as_json:
        for each in heard:
            print(json.dumps(each._asdict()))
    else:
        _tell(heard)
        tell(secured_by(known), style="dim")
    if any(each.heard != "answers" for each in heard):
        raise typer.Exit(NOT_ALL)


def _tell(heard: Sequence["RollCall"]) -> None:
    """Print a line for each node, and what is wrong with its experts."""
    for node in sorted({each.node for each in heard}):
        of_node = [each for each in heard if each.node == node]
        took_ms = [each.seconds * 1e3 for each in of_node if each.seconds is not None]
        slowest = f", at most {max(took_ms):.1f} ms" if took_ms else ""
        tell(f"node {node}: {len(took_ms)} of {len(of_node)} experts answer{slowest}")
        for each in of_node:
            if each.heard != "answers":
                tell(f"  expert {each.expert} of layer {each.layer}: {each.heard}")
    answering = sum(each.heard == "answers" for each in heard)
    tell(f"{answering} of {len(heard)} answer")
