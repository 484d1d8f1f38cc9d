"""``airmoe links``: what the links from here to the nodes of a mesh give. It needs no PyTorch."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from airmoe.cli.console import tell
from airmoe.cli.identity_options import IdentityFolder, Insecure
from airmoe.cli.logs import LogOption, log_as
from airmoe.cli.reaching import ClientFolder, reached_mesh
from airmoe.cli.serving import Connect

if TYPE_CHECKING:
    from airmoe.mesh.link_meter import LinkMeasure
    from airmoe.mesh.wifi import WifiSignal

SOME_UNMEASURED = 1
"""Exit status where a link could not be measured."""


def links(
    client: ClientFolder,
    connect: Connect = [],  # noqa: B006 (Typer copies it)
    timeout_s: Annotated[
        float, typer.Option(help="Seconds for nodes to be found, and again for each link to be measured.")
    ] = 3.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON object per link, one a line, and nothing else.")
    ] = False,
    identity: IdentityFolder = None,
    insecure: Insecure = False,
    log: LogOption = "short",
) -> None:
    """Measure the links from here to all nodes of a mesh: latency and rate. Needs no PyTorch.

    Each node is sent a few messages of 64 bytes and of 32 KiB, which it answers at once. The rate is of the
    way there and back together, at most 1000 Mbit/s: what is faster cannot be told from noise.

    Exit status: 0 if all links were measured, 1 if one was not, 2 if the input is wrong.
    """
    from airmoe.mesh.wifi import wifi_signals

    log_as(log)
    with reached_mesh(client, connect, timeout_s, identity, insecure) as (mesh, secured):
        measured = mesh.measure_links(timeout_s)
    if as_json:
        for each in measured:
            print(json.dumps(asdict(each)))
    else:
        _tell(measured, wifi_signals())
        tell(secured, style="dim")
    if any(each.rate_bps is None for each in measured):
        raise typer.Exit(SOME_UNMEASURED)


def _tell(measured: "Sequence[LinkMeasure]", signals: "Sequence[WifiSignal]") -> None:
    from airmoe.mesh.link_meter import FASTEST_BPS

    for each in measured:
        if each.rate_bps is None or each.latency_s is None:
            tell(f"node {each.node}: no answer")
        else:
            more = " or more" if each.rate_bps >= FASTEST_BPS else ""
            tell(f"node {each.node}: {each.latency_s * 1e3:.2f} ms, {each.rate_bps / 1e6:.4g} Mbit/s{more}")
    for signal in signals:
        noise = "" if signal.noise_dbm is None else f", noise {signal.noise_dbm:g} dBm"
        tell(f"{signal.interface}: signal {signal.level_dbm:g} dBm{noise}")
