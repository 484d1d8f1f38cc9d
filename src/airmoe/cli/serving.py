"""``airmoe serve``: a node, or all nodes of a run. It needs no PyTorch."""

import logging
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from airmoe.cli.identity_options import (
    MUTUAL,
    UNAUTHENTICATED,
    IdentityFolder,
    Insecure,
    identity_for,
    secured_by,
)
from airmoe.cli.logs import LogForm, LogOption, json_of_node, log_as
from airmoe.cli.paths import client_folder
from airmoe.cli.plugin_option import Plugins, load_plugins, tell_unused_plugins
from airmoe.errors import AddressError, InvalidInputError, MeshError, require
from airmoe.scheduling.parsing import JOINT_POLICIES, JOINT_POLICY_FORMS

if TYPE_CHECKING:
    from airmoe.mesh import Node
    from airmoe.mesh.identity import Identity
    from airmoe.scheduling import Policy

_log = logging.getLogger("airmoe.cli")

LISTEN = "127.0.0.1:7447"
"""Where a node listens that neither the command nor the roster tells."""

Connect = Annotated[
    list[str],
    typer.Option(
        help="HOST:PORT of a node, which knows the others, or a file with one on each line, which names all "
        "nodes. May be repeated. The addresses of the roster are known in any case."
    ),
]


def serve(
    folder: Annotated[
        Path,
        typer.Argument(
            callback=client_folder,
            help="clients/<id> of a run folder, a copy of it, or a file that airmoe pack made; with --all "
            "the run folder.",
        ),
    ],
    every_node: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Serve every node of a run folder from here: a process each, on the port of --listen and "
            "those after it. Ctrl-C ends all of them.",
        ),
    ] = False,
    listen: Annotated[
        str | None,
        typer.Option(help=f"HOST:PORT to listen on. [the node's own in the roster, or {LISTEN}]"),
    ] = None,
    connect: Connect = [],  # noqa: B006 (Typer copies it)
    schedule: Annotated[
        str | None,
        typer.Option(
            help=f"Also decide for every client that asks by this joint policy: {JOINT_POLICY_FORMS}. "
            "Clients ask with the same --policy. One node is enough; of several, the lowest that is alive is "
            "asked."
        ),
    ] = None,
    slot_ms: Annotated[
        float,
        typer.Option(
            help="Milliseconds that a scheduler collects requests before it decides on all of them at once, "
            "0 to 500: longer slots share subcarriers among more clients, and every query waits for one, for "
            "half of its deadline at most."
        ),
    ] = 5.0,
    completions: Annotated[
        str | None,
        typer.Option(
            help="Also answer OpenAI's clients at this loopback HOST:PORT, for a language model: "
            "/v1/completions. Texts rest at the node of the folder, with --all at node 0. Needs PyTorch."
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            help="Also tell Prometheus (/metrics) and supervisors (/health) how the node is, at this "
            "loopback HOST:PORT; with --all each node does, on this port and those after it. Needs "
            "airmoe[monitor]."
        ),
    ] = None,
    exit_with_parent: Annotated[
        bool, typer.Option(help="End when standard input closes, for processes started by another.")
    ] = False,
    identity: IdentityFolder = None,
    insecure: Insecure = False,
    log: LogOption = "full",
    plugin: Plugins = [],  # noqa: B006 (Typer copies it)
) -> None:
    """Serve the experts of a client's folder to the mesh until interrupted. Needs no PyTorch.

    Links have mutual TLS. Whoever asks or answers must be in the roster, and an expert is taken only from a
    node that the roster lets serve it.
    """
    stop = threading.Event()
    if exit_with_parent:
        threading.Thread(target=_set_at_end_of_input, args=(stop,), daemon=True).start()
    log_as(log)
    if metrics is not None:
        require("monitor", "prometheus_client", by="--metrics")
        refuse_elsewhere("metrics", metrics, "whoever reads it")
    load_plugins(plugin)
    policy = _joint_policy(schedule)
    tell_unused_plugins(plugin)
    if every_node:
        if connect:
            raise InvalidInputError("connect", connect, "none beside --all: the nodes find one another")
        if identity is not None:
            raise InvalidInputError("identity", str(identity), "none beside --all: every node has its own")
        _serve_all(folder, listen or LISTEN, policy, slot_ms, log, stop, completions, metrics, insecure)
    elif (folder / "clients").is_dir():
        raise InvalidInputError("folder", str(folder), "clients/<id> in it, or --all to serve every node")
    else:
        known = identity_for(folder, identity, insecure)
        if listen is None:
            own = () if known is None else known.member.addresses
            listen = next(iter(own), LISTEN)
        _serve_one(folder, listen, connect, policy, slot_ms, stop, completions, metrics, known)


def refuse_elsewhere(name: str, listen: str, whoever: str) -> None:
    """Refuse an address that is not this machine's alone.

    Args:
        name: of the option.
        listen: its value.
        whoever: what is said of those who come.

    Raises:
        InvalidInputError: it is malformed, or another one.
    """
    from airmoe.mesh.addresses import parse_address

    try:
        parse_address(listen)
    except AddressError:
        expected = f"a loopback HOST:PORT, for example 127.0.0.1:9447: {whoever} is on this machine"
        raise InvalidInputError(name, listen, expected) from None


def _joint_policy(schedule: str | None) -> "Policy | None":
    from airmoe.scheduling import make_policy

    if schedule is None:
        return None
    try:
        return make_policy(schedule)
    except InvalidInputError as error:
        if error.name != "policy":
            raise
        raise InvalidInputError("schedule", schedule, JOINT_POLICIES.expected(schedule)) from None


def _serve_one(
    folder: Path,
    listen: str,
    connect: list[str],
    policy: "Policy | None",
    slot_ms: float,
    stop: threading.Event,
    completions: str | None,
    metrics: str | None,
    identity: "Identity | None",
) -> None:
    from airmoe.manifest import experts_in_words
    from airmoe.mesh import Node
    from airmoe.monitor.systemd import Systemd

    set_at_signal(stop)
    systemd = Systemd()
    with ExitStack() as open_:
        node = open_.enter_context(
            Node(folder, listen, connect, schedule=policy, slot_ms=slot_ms, identity=identity)
        )
        set_at_signal(stop, node.leave_soon)
        told = "" if metrics is None else _tell_condition(node, metrics, open_)
        manifest = node.manifest
        holds = ", ".join(manifest.classes[label] for label in manifest.holds)
        experts = experts_in_words(manifest.serves) + f" ({holds})" * bool(holds)
        print(f"serving {experts} of mesh {manifest.mesh} on {listen}", flush=True)
        if policy is not None:
            print(f"scheduling by {policy.name} in slots of {slot_ms:g} ms", flush=True)
        if completions is not None:
            _answer_completions(folder, [listen, *connect], policy, completions, identity, open_)
        if told:
            print(told, flush=True)
        print(secured_by(identity), flush=True)
        systemd.serves(lambda: node.condition().why_idle)
        open_.callback(systemd.ends)
        # Another thread may take the signal, and the handler runs when this one wakes.
        while not stop.wait(timeout=0.5):
            if node.is_outdated():
                _renew(node)


def _tell_condition(node: "Node", metrics: str, open_: ExitStack) -> str:
    """Tell how a node is until ``open_`` is closed; return where, in a line."""
    from airmoe.monitor.node_endpoint import NodeEndpoint

    endpoint = open_.enter_context(NodeEndpoint(node.condition, metrics))
    return f"metrics at {endpoint.url}/metrics, health at {endpoint.url}/health"


def _renew(node: "Node") -> None:
    try:
        node.renew()
    except (MeshError, OSError) as error:
        _log.error("the node could not be renewed, and goes on: %s", error)
    else:
        _log.warning("a newer certificate or roster holds from now on")


def _serve_all(
    run: Path,
    listen: str,
    policy: "Policy | None",
    slot_ms: float,
    log: LogForm,
    stop: threading.Event,
    completions: str | None,
    metrics: str | None,
    insecure: bool,
) -> None:
    from airmoe.manifest import read_manifest
    from airmoe.mesh.fleet import NodeFleet
    from airmoe.monitor.systemd import Systemd
    from airmoe.plugins import loaded_plugins
    from airmoe.runfolder import SERVER, client_folders

    def told(node: int, line: str) -> None:
        if log == "json" and (record := json_of_node(node, line)):
            print(record, file=sys.stderr, flush=True)
        elif line != UNAUTHENTICATED and not line.startswith(MUTUAL):  # said once for all
            print(f"node {node}: {line}", flush=True)

    folders, name = client_folders(run), None if policy is None else policy.name
    systemd = Systemd()
    with ExitStack() as open_:
        fleet = open_.enter_context(
            NodeFleet(
                folders,
                schedule=name,
                slot_ms=slot_ms,
                listen=listen,
                log=log,
                said=told,
                metrics=metrics,
                insecure=insecure,
            )
        )
        set_at_signal(stop)
        server = run / "clients" / SERVER
        asker = server if server.exists() else folders[0]
        joint = [] if name is None else ["--policy", name]
        joint += [word for plugin in loaded_plugins() for word in ("--plugin", str(plugin.path))]
        ask = ["airmoe", "predict", "IMAGE", "--client", str(asker)]
        if read_manifest(asker).source is not None:
            ask = ["airmoe", "generate", str(asker), "PROMPT"]
        ask += ["--connect", fleet.addresses[0], *joint, *["--insecure"] * insecure]
        if completions is not None:
            known = identity_for(asker, None, insecure)
            _answer_completions(asker, fleet.addresses[:1], policy, completions, known, open_)
        print(f"{len(folders)} nodes serve. Ask with: {shlex.join(ask)}", flush=True)
        print(UNAUTHENTICATED if insecure else f"{MUTUAL}: each node has its certificate", flush=True)
        systemd.serves(lambda: None if fleet.alive else "no node is left")
        open_.callback(systemd.ends)
        while not stop.wait(timeout=0.5):
            for death in fleet.newly_dead():
                _log.error("%s; %d of %d nodes serve on", death, fleet.alive, len(folders))
            if not fleet.alive:
                raise MeshError("no node is left")


def _answer_completions(
    folder: Path,
    connect: list[str],
    policy: "Policy | None",
    listen: str,
    identity: "Identity | None",
    open_: ExitStack,
) -> None:
    """Answer OpenAI's clients until ``open_`` is closed."""
    require("train", "torch", "safetensors")
    from airmoe.language.endpoint import CompletionServer
    from airmoe.language.mesh import MeshSource
    from airmoe.language.writer import Writer

    source = open_.enter_context(MeshSource(folder, connect, identity=identity))
    writer = Writer.over(source, policy)
    server = open_.enter_context(CompletionServer(writer, source.manifest.mesh, listen))
    print(f"completions of model {source.manifest.mesh} at {server.url}", flush=True)


def set_at_signal(stop: threading.Event, also: Callable[[], None] = lambda: None) -> None:
    """Have Ctrl-C and SIGTERM set an event, and do something else as well."""

    def heard(*_: object) -> None:
        stop.set()
        also()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, heard)


def _set_at_end_of_input(stop: threading.Event) -> None:
    while os.read(0, 4096):
        pass
    stop.set()
