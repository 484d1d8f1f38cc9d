"""``airmoe status``: whether every expert of a mesh answers. It needs no PyTorch."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from airmoe.cli.console import tell
from airmoe.cli.identity_options import IdentityFolder, Insecure
from airmoe.cli.logs import LogOption, log_as
from airmoe.cli.reaching import ClientFolder, reached_mesh
from airmoe.cli.serving import Connect

if TYPE_CHECKING:
    from airmoe.mesh.roll_call import RollCall

NOT_ALL = 1
"""Exit status where an expert does not answer."""


def status(
    client: ClientFolder,
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
    from airmoe.mesh.roll_call import call_roll

    log_as(log)
    with reached_mesh(client, connect, timeout_s, identity, insecure) as (mesh, secured):
        heard = call_roll(mesh, timeout_s)
    if as_json:
        for each in heard:
            print(json.dumps(each._asdict()))
    else:
        _tell(heard)
        tell(secured, style="dim")
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
