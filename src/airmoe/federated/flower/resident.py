"""The process of a node: Flower's SuperNode as its child, and the client's steps in itself."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

from airmoe.errors import AirmoeError, InvalidInputError
from airmoe.federated.flower.node import ParticipantOf, ResidentNode
from airmoe.federated.flower.quiet import be_quiet, environment
from airmoe.files import write_secret

LOOKS_EVERY_S = 0.2
"""How often the process looks whether its SuperNode lives."""

ENDS_WITHIN_S = 10.0
"""How long a SuperNode may take to say goodbye to the SuperLink."""


class SuperNodeEndedError(AirmoeError):
    """The SuperNode ended by itself: its key is not registered, or the SuperLink cannot be trusted."""


def run_node(
    superlink: str, authority: Path, key: Path, client: int, folder: Path, participant_of: ParticipantOf
) -> None:
    """Run a node until the process is told to end.

    Args:
        superlink: host:port of the SuperLink.
        authority: the certificate of the authority that signed the SuperLink's.
        key: this node's; its public half must be registered.
        client: this node's number.
        folder: of this node alone; states lie here, and whoever runs the node can enter it, nobody else.
        participant_of: makes the participant when a run begins.

    Raises:
        SuperNodeEndedError: the SuperNode ended by itself.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    be_quiet(folder / "home")

    from airmoe.federated.flower.tasks import serve_tasks

    logging.getLogger("flwr").propagate = False  # it writes its log itself
    ends = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: ends.set())
    secret, secret_file = secrets.token_bytes(32), folder / "executor.secret"
    secret_file.unlink(missing_ok=True)
    write_secret(secret_file, secret)
    port = _free_port()
    supernode = subprocess.Popen(
        [
            *(sys.executable, "-P", str(Path(__file__).with_name("supernode.py")), str(os.getpid())),
            *("--superlink", superlink, "--root-certificates", str(authority)),
            *("--auth-supernode-private-key", str(key)),
            *("--host", "127.0.0.1", "--port", str(port)),
            *("--isolation", "process", "--superexec-auth-secret-file", str(secret_file)),
        ],
        env=environment(folder / "home"),
    )
    node = ResidentNode(client, folder / "runs", participant_of)
    # A daemon: a step of minutes does not keep a node that is told to end.
    threading.Thread(
        target=serve_tasks,
        args=(f"127.0.0.1:{port}", secret, node, lambda: not ends.is_set()),
        daemon=True,
    ).start()
    try:
        while supernode.poll() is None and not ends.wait(LOOKS_EVERY_S):
            pass
        if not ends.is_set():
            raise SuperNodeEndedError(
                f"the SuperNode ended with status {supernode.returncode}; "
                f"is the key of client {client} registered?"
            )
        supernode.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            supernode.wait(ENDS_WITHIN_S)
    finally:
        supernode.kill()
        supernode.wait()


def participant_named(name: str) -> ParticipantOf:
    """Return what ``module:attribute`` names.

    Raises:
        InvalidInputError: there is no such thing.
    """
    module, _, attribute = name.partition(":")
    try:
        named = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidInputError(
            "participant", name, f"module:function that can be imported ({error})"
        ) from None
    return named  # type: ignore[no-any-return]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
