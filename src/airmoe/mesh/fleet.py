"""Node processes on this machine: one ``airmoe serve`` per client folder; none outlives this process."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from airmoe.errors import AirmoeError, InvalidInputError, MeshError
from airmoe.mesh.addresses import parse_address
from airmoe.mesh.identity import Identity
from airmoe.mesh.local_identities import local_identity
from airmoe.mesh.model_memory import resident_bytes
from airmoe.plugins import loaded_plugins

READY = "serving expert"
"""A node that serves prints a line that begins with this."""

_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""Nodes share the cores of one machine: each computes on one thread, as its ONNX Runtime does anyway."""

LEAVING_S = 5.0
"""How long closing waits for all nodes together before it kills those that are left."""

Listener = Callable[[int, str], None]
"""Called with the number of a node and a line that it said, from any thread."""


class NodeFleet:
    """The nodes of a run, each a process of its own that computes on one thread.

    Every node holds a pipe from this process and ends when the pipe closes, so none outlives it, not even
    after SIGKILL.

    Args:
        folders: the clients' folders, in client order.
        start_timeout_s: seconds for all nodes to serve.
        schedule: the joint policy by which node 0 decides for all, e.g. "jesa:0.5:2"; default none.
        slot_ms: how long node 0 then collects requests.
        listen: loopback HOST:PORT of node 0, and the ports after it are those of the others; default free
            ports.
        log: how the nodes write their logs, beside what they say; see `airmoe serve --log`.
        said: told every line that a node says once it serves, those before it included.
        metrics: loopback HOST:PORT where node 0 tells its metrics, and the ports after it are those of the
            others; default nowhere. Needs the extra `airmoe[monitor]`.
        insecure: whether links have no TLS and anybody on this machine may ask; default mutual TLS, by the
            identities of the folders, or those of their run for this machine, which are made where needed.

    Attributes:
        addresses: HOST:PORT of every node.
        identities: of every node, for clients that ask from its folder; None where there is none.
        start_s: seconds until each node served.

    Raises:
        MeshError: a node ended or did not serve in time; its output is in the message.
        AddressError: ``listen`` is malformed.
        InvalidInputError: no folder, or one twice; ``listen`` or ``metrics`` leaves too few ports.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        start_timeout_s: float = 60.0,
        *,
        schedule: str | None = None,
        slot_ms: float = 5.0,
        listen: str | None = None,
        log: str = "full",
        said: Listener = lambda node, line: None,
        metrics: str | None = None,
        insecure: bool = False,
    ) -> None:
        _refuse_none_and_twice(folders)
        self.identities = [
            None if insecure else _identity(number, folder) for number, folder in enumerate(folders)
        ]
        count = len(folders)
        self.addresses = free_addresses(count) if listen is None else _addresses("listen", listen, count)
        told = [None] * count if metrics is None else _addresses("metrics", metrics, count)
        self.start_s = [0.0] * len(folders)
        self._tell = said
        self._processes: list[subprocess.Popen[str]] = []
        self._gone: set[int] = set()
        begin = time.monotonic()
        try:
            for folder, address, watched in zip(folders, self.addresses, told, strict=True):
                command = [sys.executable, "-m", "airmoe.cli", "serve", str(folder), "--listen", address]
                command += ["--exit-with-parent", "--log", log, *["--insecure"] * insecure]
                command += [] if watched is None else ["--metrics", watched]
                if address != self.addresses[0]:
                    command += ["--connect", self.addresses[0]]
                elif schedule is not None:
                    command += ["--schedule", schedule, "--slot-ms", str(slot_ms)]
                    command += [
                        word for plugin in loaded_plugins() for word in ("--plugin", str(plugin.path))
                    ]
                self._processes.append(
                    subprocess.Popen(
                        command,
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.STDOUT,
                        text=True,
                        env={**os.environ, **_ONE_THREAD},
                        start_new_session=True,  # Ctrl-C is for the parent, which closes the pipes
                    )
                )
            for node in range(len(folders)):
                self._wait_until_ready(node, begin + start_timeout_s)
                self.start_s[node] = time.monotonic() - begin
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "NodeFleet":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def freeze(self, node: int) -> None:
        """Stop a node with SIGSTOP: its connections stay open and it answers nothing."""
        os.kill(self._processes[node].pid, signal.SIGSTOP)

    def kill(self, node: int) -> None:
        """End a node with SIGKILL: it takes leave of nobody."""
        os.kill(self._processes[node].pid, signal.SIGKILL)

    def newly_dead(self) -> list[str]:
        """Return a phrase for each node that ended since the last call: which it was, and how it ended."""
        told = []
        for node, process in enumerate(self._processes):
            status = process.poll()
            if status is None or node in self._gone:
                continue
            self._gone.add(node)
            how = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
            told.append(f"node {node} at {self.addresses[node]} died ({how})")
        return told

    @property
    def alive(self) -> int:
        """How many nodes run."""
        return sum(process.poll() is None for process in self._processes)

    def memory_mb(self) -> list[float]:
        """Return the peak resident memory of each node in MB (10^6 bytes); 0 for nodes that are gone."""
        peaks = []
        for process in self._processes:
            peak_bytes = 0
            with contextlib.suppress(OSError, IndexError):  # the process is gone, or a zombie
                peak_bytes = resident_bytes("VmHWM", str(process.pid))
            peaks.append(peak_bytes / 1e6)
        return peaks

    def close(self) -> None:
        """Close the pipes, wait for the nodes to leave, and kill those that do not."""
        for process in self._processes:
            if process.stdin is not None:
                with contextlib.suppress(OSError):
                    process.stdin.close()
        end_s = time.monotonic() + LEAVING_S
        for process in self._processes:
            try:
                process.wait(timeout=max(end_s - time.monotonic(), 0.0))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()

    def _wait_until_ready(self, node: int, deadline_s: float) -> None:
        process, lines = self._processes[node], list[str]()
        assert process.stdout is not None
        overdue = threading.Timer(max(deadline_s - time.monotonic(), 0.0), process.kill)
        overdue.start()
        try:
            for line in process.stdout:
                lines.append(line.rstrip())
                if line.startswith(READY):
                    for said in lines:
                        self._tell(node, said)
                    # Keep reading, or a full pipe would block the node.
                    threading.Thread(target=self._pass_on, args=(node,), daemon=True).start()
                    return
        finally:
            overdue.cancel()
        told = " / ".join(line.removeprefix("airmoe: ") for line in lines)
        raise MeshError(f"node {node} did not start: {told or 'it said nothing'}")

    def _pass_on(self, node: int) -> None:
        stdout = self._processes[node].stdout
        assert stdout is not None
        with contextlib.suppress(ValueError, OSError):
            for line in stdout:
                self._tell(node, line.rstrip())


def _identity(node: int, folder: Path) -> Identity:
    try:
        return local_identity(folder)
    except AirmoeError as error:
        raise MeshError(f"node {node} did not start: {error}") from None


def _refuse_none_and_twice(folders: Sequence[Path]) -> None:
    if isinstance(folders, str | Path):
        raise InvalidInputError("folders", str(folders), "a list of clients' folders")
    if not folders:
        raise InvalidInputError("folders", [], "at least one client's folder")
    seen = set[Path]()
    for folder in folders:
        if folder.resolve() in seen:
            raise InvalidInputError("folders", str(folder), "every folder once: a node has one")
        seen.add(folder.resolve())


def _addresses(name: str, first: str, count: int) -> list[str]:
    """Return an address and those at the ports after it."""
    port = parse_address(first)[1]
    if port + count > 1 << 16:
        raise InvalidInputError(name, first, f"a port of at most {(1 << 16) - count}: one for each node")
    return [f"{first.rpartition(':')[0]}:{port + number}" for number in range(count)]


def free_addresses(count: int) -> list[str]:
    """Return loopback addresses with ports that were free a moment ago."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{probe.getsockname()[1]}" for probe in probes]
    finally:
        for probe in probes:
            probe.close()
