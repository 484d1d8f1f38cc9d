"""A whole federation on one machine: a SuperLink and nodes as processes, with certificates, keys and logins.

To try a run before it goes to real hosts, and for tests. Everything listens at loopback addresses only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from airmoe.errors import AirmoeError
from airmoe.federated.flower.app import Settings, write_app
from airmoe.federated.flower.connection import CONNECTION, register_node, write_connection
from airmoe.federated.flower.keys import AUTHORITY, KEYS, TOKEN, make_keys, make_node_key, read_secret
from airmoe.federated.flower.quiet import environment

_STARTS_WITHIN_S = 60.0
_ENDS_WITHIN_S = 10.0


class LabError(AirmoeError):
    """A process of the lab did not start, or a run failed."""


class Lab:
    """A federation on this machine; leaving the block ends every process of it.

    Args:
        folder: to make; keys, logs, and a folder per node lie in it.
        clients: how many nodes get a key and are registered; all are started on entry.
        server: ``module:attribute`` of the ServerApp.
        client: of the ClientApp.
        participant: ``module:function`` that makes what takes part; None for the networked method.
        settings: what a run may be given, with what holds otherwise.
        identities: the folder of an identity in the mesh for each node, in place of keys; that of the first
            is the SuperLink's, too, so its certificate names 127.0.0.1.

    Raises:
        LabError: a process does not start.
    """

    def __init__(
        self,
        folder: Path,
        clients: int,
        server: str,
        client: str,
        participant: str | None,
        settings: Settings,
        identities: Sequence[Path] = (),
    ) -> None:
        self.folder, self.clients, self._settings = folder, clients, settings
        self.identities = tuple(identities)
        self._apps, self._participant = (server, client), participant
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._port = _free_port()

    @property
    def address(self) -> str:
        """host:port of the SuperLink."""
        return f"127.0.0.1:{self._port}"

    @property
    def keys(self) -> Path:
        """The folder with the owner's token."""
        return self.folder / "superlink" / KEYS if self.identities else self.folder / KEYS

    @property
    def authority(self) -> Path:
        """The certificate that nodes and users trust."""
        return self.keys / f"{AUTHORITY}.crt"

    def __enter__(self) -> Self:
        """Make keys where there are no identities, start the SuperLink, register the nodes, start them."""
        if not self.identities:
            make_keys(self.keys, [])
        write_app(self.folder / "app", *self._apps, self._settings)
        try:
            self.start_superlink()
            token = read_secret(self.keys / TOKEN)
            write_connection(self.folder / "home", self.address, self.authority, token)
            for client in range(self.clients):
                if not self.identities:
                    public = make_node_key(self.folder / f"node-{client}.key")
                    register_node(self.address, self.authority, token, public, client)
                self.start_node(client)
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every process."""
        self.end()

    def start_superlink(self) -> None:
        """Start the SuperLink, and wait until it listens."""
        self._start(
            "superlink",
            *("superlink", "--folder", str(self.folder / "superlink"), "--port", str(self._port)),
            *("--host", "127.0.0.1"),
            *(("--identity", str(self.identities[0])) if self.identities else ("--keys", str(self.keys))),
        )
        deadline = time.monotonic() + _STARTS_WITHIN_S
        while not _listens(self._port):
            if self._processes["superlink"].poll() is not None or time.monotonic() > deadline:
                raise LabError(f"the SuperLink does not start; see {self.log('superlink')}")
            time.sleep(0.05)

    def start_node(self, client: int) -> None:
        """Start a node, or start it anew."""
        key = str(self.folder / f"node-{client}.key")
        keys = "--client", str(client), "--authority", str(self.authority), "--key", key
        self._start(
            f"node-{client}",
            *("node", "--superlink", self.address, "--folder", str(self.folder / f"node-{client}")),
            *(("--identity", str(self.identities[client])) if self.identities else keys),
            *(("--participant", self._participant) if self._participant else ()),
        )

    def kill(self, name: str) -> None:
        """Kill "superlink" or "node-3" with all that it started, as a power cut would."""
        process = self._processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self, name: str) -> None:
        """End "superlink" or "node-3" as who runs it would, so that it says goodbye."""
        self._processes[name].terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._processes[name].wait(_ENDS_WITHIN_S)
        self.kill(name)

    def begin_run(self, settings: Settings) -> subprocess.Popen[str]:
        """Start ``flwr run`` and return its process, whose output streams the run's log.

        Args:
            settings: of the run; names and values as in ``--run-config``.
        """
        given = " ".join(f"{name}={_toml(value)}" for name, value in settings.items())
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "flwr.cli.app", "run", str(self.folder / "app"), CONNECTION),
                *("--stream", "--run-config", given),
            ],
            env=environment(self.folder / "home"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, settings: Settings, within_s: float) -> str:
        """Run to the end; return the log.

        Raises:
            LabError: it takes longer.
        """
        process = self.begin_run(settings)
        try:
            return process.communicate(timeout=within_s)[0]
        except subprocess.TimeoutExpired:
            process.kill()
            raise LabError(f"the run took more than {within_s:g} s: {process.communicate()[0]}") from None

    def log(self, name: str) -> Path:
        """Return the file that holds what a process said."""
        return self.folder / f"{name}.log"

    def end(self) -> None:
        """End every process and all that it started."""
        for process in self._processes.values():
            process.terminate()
        deadline = time.monotonic() + _ENDS_WITHIN_S
        for process in self._processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(deadline - time.monotonic(), 0.0))
        for name in list(self._processes):
            self.kill(name)

    def _start(self, name: str, *words: str) -> None:
        with self.log(name).open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", "airmoe.cli", "flower", *words],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a group of its own, so that all of it can be ended
            )


def _toml(value: str | float | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f'"{value}"' if isinstance(value, str) else str(value)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
        return True
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
