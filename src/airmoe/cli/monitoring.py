"""``airmoe monitor``: a page that shows a mesh while it works. It needs no PyTorch."""

import threading
import time
from contextlib import ExitStack, closing
from typing import Annotated

import typer

from airmoe import __version__
from airmoe.checks import number_within
from airmoe.cli.identity_options import (
    IdentityFolder,
    Insecure,
    identity_for,
    refuse_nowhere,
    secured_by,
)
from airmoe.cli.logs import LogOption, log_as
from airmoe.cli.reaching import LONGEST_S, ClientFolder
from airmoe.cli.serving import Connect, refuse_elsewhere, set_at_signal
from airmoe.errors import require
from airmoe.scheduling.parsing import POLICY_FORMS

LISTEN = "127.0.0.1:8470"
"""Where the page is."""


def monitor(
    client: ClientFolder,
    connect: Connect = [],  # noqa: B006 (Typer copies it)
    listen: Annotated[str, typer.Option(help="HOST:PORT of the page, on this machine.")] = LISTEN,
    policy: Annotated[
        str, typer.Option(help=f"Who answers an image that is dropped on the page: {POLICY_FORMS}.")
    ] = "topk:1",
    reach: Annotated[
        str | None,
        typer.Option(
            help="HOST:PORT at which clients on other machines reach this process, so that their energy and "
            "links are seen. [the host of this node in the roster, at a free port]"
        ),
    ] = None,
    timeout_s: Annotated[float, typer.Option(help="Seconds for nodes to be found at first.")] = 3.0,
    identity: IdentityFolder = None,
    insecure: Insecure = False,
    log: LogOption = "short",
) -> None:
    """Show a mesh in a browser while it works: nodes, links, queries, what they cost. Needs no PyTorch.

    The page is on this machine alone, and behind a token: open the address that is printed. From another
    machine, reach it with ssh -L. Ctrl-C ends it.
    """
    require("monitor", "starlette", by="airmoe monitor")
    require("monitor", "uvicorn", by="airmoe monitor")
    from airmoe.manifest import read_manifest
    from airmoe.mesh import MeshClient, parse_address
    from airmoe.mesh.addresses import LOOPBACK
    from airmoe.mesh.layers import MeshLayers
    from airmoe.mesh.session import reachable
    from airmoe.monitor.asking import ask_by, asks_images
    from airmoe.monitor.page import Page
    from airmoe.monitor.watcher import Watcher
    from airmoe.scheduling import make_policy

    stop = threading.Event()
    set_at_signal(stop)
    log_as(log)
    number_within("timeout_s", timeout_s, 0, LONGEST_S)
    refuse_elsewhere("listen", listen, "who looks")
    decides = make_policy(policy)
    manifest, known = read_manifest(client), identity_for(client, identity, insecure)
    refuse_nowhere(connect, known)
    reached = reach or reachable(known)
    with ExitStack() as open_:
        ask = None
        if asks_images(manifest):
            asker = open_.enter_context(
                MeshClient(client, connect, policy=decides, identity=known, listen=reached)
            )
            ask, mesh = ask_by(asker), asker.mesh
        else:
            numbers = [layer.layer for layer in manifest.layers]
            mesh = MeshLayers(client, manifest, numbers, connect, identity=known, listen=reached)
            open_.enter_context(closing(mesh))
        end_s = time.monotonic() + timeout_s
        while not mesh.wait_for_all(0.1) and time.monotonic() < end_s and not stop.is_set():
            pass
        if stop.is_set():
            return
        if not mesh.nodes_alive():
            print("no node is found yet", flush=True)
        watcher = open_.enter_context(Watcher(mesh))
        about = {
            "mesh": manifest.mesh,
            "model": manifest.model_hash,
            "node": manifest.node,
            "policy": decides.name,
            "secured": secured_by(known),
            "version": __version__,
        }
        page = open_.enter_context(Page(about, watcher.latest, ask, listen))
        print(f"mesh {manifest.mesh} at {page.url}", flush=True)
        print(secured_by(known), flush=True)
        is_here_alone = parse_address(reached, anywhere=True)[0] == LOOPBACK
        if known is not None and known.holds_elsewhere and is_here_alone:
            print("clients on other machines are seen by their requests alone: see --reach", flush=True)
        while not stop.wait(timeout=0.5):
            pass
