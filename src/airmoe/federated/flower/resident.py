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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from airmoe.errors import AirmoeError, InvalidInputError
from airmoe.federated.flower.connection import refuse_untrusted
from airmoe.federated.flower.node import ParticipantOf, ResidentNode
from airmoe.federated.flower.quiet import be_quiet, environment
from airmoe.files import write_secret
from airmoe.mesh.credentials import read_key
from airmoe.mesh.identity import AUTHORITY, CERTIFICATE, KEY, Identity

LOOKS_EVERY_S = 0.2
"""How often the process looks whether its SuperNode lives."""

ENDS_WITHIN_S = 10.0
"""How long a SuperNode may take to say goodbye to the SuperLink."""

_LOOK = "the lines above say why"


class SuperNodeEndedError(AirmoeError):
    """The SuperNode ended by itself: its key is not registered, or the SuperLink cannot be trusted."""


@dataclass(frozen=True)
class NodeFiles:
    """What a node shows to a SuperLink, and trusts.

    Attributes:
        authority: the certificate of the authority that signed the SuperLink's.
        key: the private key of this node; without a certificate, its public half must be registered.
        certificate: of this node, if it has an identity.
    """

    authority: Path
    key: Path
    certificate: Path | None = None


def files_of(identity: Identity) -> NodeFiles:
    """Return the files of an identity by which its node comes to a SuperLink."""
    place = identity.folder
    return NodeFiles(place / AUTHORITY, place / KEY, place / CERTIFICATE)


def run_node(
    superlink: str, files: NodeFiles, client: int, folder: Path, participant_of: ParticipantOf
) -> None:
    """Run a node until the process is told to end.

    Args:
        superlink: host:port of the SuperLink.
        files: certificates and the key.
        client: this node's number.
        folder: of this node alone; states lie here, and whoever runs the node can enter it, nobody else.
        participant_of: makes the participant when a run begins.

    Raises:
        SuperLinkError: the SuperLink shows a certificate that is not trusted.
        SuperNodeEndedError: the SuperNode ended by itself.
    """
    refuse_untrusted(superlink, files.authority)
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
    with _readable_by_flower(files) as (key, descriptors):
        supernode = subprocess.Popen(
            [
                *(sys.executable, "-P", str(Path(__file__).with_name("supernode.py")), str(os.getpid())),
                "" if files.certificate is None else str(files.certificate.absolute()),
                *("--superlink", superlink, "--root-certificates", str(files.authority)),
                *("--auth-supernode-private-key", key),
                *("--host", "127.0.0.1", "--port", str(port)),
                *("--isolation", "process", "--superexec-auth-secret-file", str(secret_file)),
            ],
            env=environment(folder / "home"),
            pass_fds=descriptors,
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
            why = "is the key of client {} registered?" if files.certificate is None else _LOOK
            raise SuperNodeEndedError(
                f"the SuperNode ended with status {supernode.returncode}; {why.format(client)}"
            )
        supernode.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            supernode.wait(ENDS_WITHIN_S)
    finally:
        supernode.kill()
        supernode.wait()


@contextlib.contextmanager
def _readable_by_flower(files: NodeFiles) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield where a SuperNode reads the key, and the descriptors that it needs for that.

    Flower reads keys in the form of OpenSSH. That of an identity is in another one, so it goes through a
    pipe: the key is on the disk once.
    """
    if files.certificate is None:
        yield str(files.key), ()
        return
    form = serialization.PrivateFormat.OpenSSH
    key = read_key(files.key).private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    reads, writes = os.pipe()
    try:
        os.write(writes, key)  # far less than a pipe holds
        os.close(writes)
        yield f"/dev/fd/{reads}", (reads,)
    finally:
        os.close(reads)


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
