"""Nodes as processes of their own, to be killed and frozen."""

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_SCRIPT = """
import os, sys
from pathlib import Path
from airmoe.mesh import Node, local_identity
from airmoe.scheduling import make_policy

folder, listen, schedule, *connect = sys.argv[1:]
identity = local_identity(Path(folder)) if "AIRMOE_TLS" in os.environ else None
policy = make_policy(schedule) if schedule else None
with Node(Path(folder), listen, connect, schedule=policy, identity=identity):
    print("serving", flush=True)
    for line in sys.stdin:  # each line is a question about this process; the end of input ends it
        print(eval(line), flush=True)
"""


class NodeProcess:
    """A node in a process of its own; it ends when its input does, so it never outlives the tests.

    What it logs is shown, unless it is ``quiet``.
    """

    def __init__(
        self,
        client_folder: Path,
        listen: str,
        connect: Sequence[str] = (),
        schedule: str = "",
        quiet: bool = False,
    ) -> None:
        self.address = listen
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", _SCRIPT, str(client_folder), listen, schedule, *connect],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if quiet else None,
            text=True,
        )
        self.pid = self._process.pid

    def wait_until_serving(self) -> None:
        assert self._read() == "serving"

    def ask(self, expression: str) -> str:
        """Return what a Python expression is worth inside the process."""
        assert self._process.stdin is not None
        self._process.stdin.write(expression + "\n")
        self._process.stdin.flush()
        return self._read()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    @property
    def is_frozen(self) -> bool:
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8")
        return status.partition("State:")[2].split()[0] == "T"

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> int:
        """End it in order; return its exit status."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._process.wait(10)

    def destroy(self) -> None:
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip("\n")


@contextmanager
def node_processes(
    client_folders: Sequence[Path], addresses: Sequence[str], seed: str | None = None
) -> Iterator[list[NodeProcess]]:
    """Start a node for each folder, all at once; all but the seed connect to the seed, the first address."""
    seed = seed or addresses[0]
    processes: list[NodeProcess] = []
    try:
        for folder, address in zip(client_folders, addresses, strict=True):
            processes.append(NodeProcess(folder, address, [] if address == seed else [seed]))
        for process in processes:
            process.wait_until_serving()
        yield processes
    finally:
        for process in processes:
            process.destroy()
