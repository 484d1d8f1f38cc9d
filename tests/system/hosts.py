"""Hosts on this machine: network namespaces on one bridge, each with a node or a client, that can be cut off.

The product accepts loopback addresses alone, so nodes and clients get sessions of their own here.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

PORT = 7447

SESSION = """
import sys, threading, time, json
from pathlib import Path
import numpy as np
import zenoh
from airmoe.mesh import MeshClient, Node, close_session, tend_links
from airmoe.mesh.zenoh_config import session_config

folder, listen, *connect = sys.argv[1:]
session = zenoh.open(session_config([listen], connect))
if not CARELESS:
    tend_links(session, [listen])
"""

NODE = """
with Node(Path(folder), "", session=session):
    print("up", flush=True)
    sys.stdin.read()
"""

CLIENT = """
def preferring(expert):
    score_E = np.full(experts, 0.1 / (experts - 1), np.float32)
    score_E[expert] = 0.9
    return lambda payload_T, snr_db_TE: score_E[None]

image = np.zeros((1, 1, 32, 32), np.uint8)
with MeshClient(Path(folder), session=session) as client:
    experts = client.layer.spec.experts
    gates = [preferring(expert) for expert in range(experts)]
    client.wait_for_nodes(experts - 1, 30)
    print("up", flush=True)
    ends = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ends.set()), daemon=True).start()
    number = 0
    while not ends.wait(PERIOD_S):
        number += 1
        wanted = number % experts
        begin_s = time.monotonic()
        answer = client.predict(image, gate=gates[wanted])
        took_s = time.monotonic() - begin_s
        whole = bool(answer.dispatched.arrived_TE[0, wanted])
        print(json.dumps([begin_s, took_s, wanted, whole, bool(answer.degraded_T[0])]), flush=True)
"""

PERIOD_S = 0.005


def why_no_hosts() -> str:
    """Return why there can be none here; nothing where there can."""
    if sys.platform != "linux" or shutil.which("ip") is None:
        return "needs Linux and its command ip"
    if os.geteuid() != 0:
        return "needs root"
    name = f"airmoe-{os.getpid()}-probe"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"needs network namespaces: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", name], check=True)
    return ""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


class Hosts:
    """Hosts 0 to n - 1, host k at 10.88.0.(k + 1), joined by a bridge in a namespace of its own."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._begin = f"airmoe-{os.getpid()}"
        self._switch = f"{self._begin}-switch"

    def name(self, host: int) -> str:
        return f"{self._begin}-{host}"

    def address(self, host: int) -> str:
        return f"10.88.0.{host + 1}"

    def locator(self, host: int) -> str:
        return f"tcp/{self.address(host)}:{PORT}"

    def unplug(self, host: int) -> None:
        """Cut a host off: what it sends is lost, and so is what is sent to it."""
        ip("-n", self._switch, "link", "set", f"p{host}", "down")

    def plug(self, host: int) -> None:
        ip("-n", self._switch, "link", "set", f"p{host}", "up")

    def swallow(self, sender: int, receiver: int) -> None:
        """Lose whatever one host sends to another; the other way is open."""
        ip("-n", self.name(sender), "route", "add", "blackhole", f"{self.address(receiver)}/32")

    def pass_on(self, sender: int, receiver: int) -> None:
        ip("-n", self.name(sender), "route", "del", "blackhole", f"{self.address(receiver)}/32")

    def throttle(self, host: int, mbit: int) -> None:
        """Have what is sent to a host come at a rate; what is on the way waits for up to 2 s."""
        words = f"qdisc add dev p{host} root tbf rate {mbit}mbit burst 4kb latency 2s"
        tc = ["ip", "netns", "exec", self._switch, "tc", *words.split()]
        subprocess.run(tc, check=True, capture_output=True, text=True)

    def _make(self, undo: ExitStack) -> None:
        for name in (self._switch, *map(self.name, range(self.count))):
            ip("netns", "add", name)
            undo.callback(ip, "netns", "del", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", self._switch, "link", "add", "bridge", "type", "bridge")
        ip("-n", self._switch, "link", "set", "bridge", "up")
        for host in range(self.count):
            end = ["name", "eth0", "netns", self.name(host)]
            ip("-n", self._switch, "link", "add", f"p{host}", "type", "veth", "peer", *end)
            ip("-n", self._switch, "link", "set", f"p{host}", "master", "bridge", "up")
            ip("-n", self.name(host), "addr", "add", f"{self.address(host)}/24", "dev", "eth0")
            ip("-n", self.name(host), "link", "set", "eth0", "up")

    @contextmanager
    def start(
        self, host: int, script: str, folder: Path, out: Path, connect: Sequence[int]
    ) -> Iterator[None]:
        """Run a script on a host until the block ends; what it says goes to a file."""
        # Before all others, lest what else the machine does is measured.
        first = ["chrt", "--rr", "1"] if shutil.which("chrt") else []
        command = [
            *first,
            "ip",
            "netns",
            "exec",
            self.name(host),
            sys.executable,
            "-W",
            "error",
            "-c",
            script,
        ]
        command += [str(folder), self.locator(host), *map(self.locator, connect)]
        with out.open("w", encoding="utf-8") as said:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=said)
        try:
            yield
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def hosts(count: int) -> Iterator[Hosts]:
    """Make hosts, and take them away again."""
    with ExitStack() as undo:
        made = Hosts(count)
        made._make(undo)
        yield made


def script(what: str, *, careless: bool = False) -> str:
    return (SESSION + what).replace("CARELESS", str(careless)).replace("PERIOD_S", str(PERIOD_S))


class Query:
    """One query of the client: when it began, how long it took, which expert it wanted, and what came."""

    def __init__(self, line: str) -> None:
        self.begin_s, self.took_s, self.wanted, self.whole, self.degraded = json.loads(line)


class Said:
    """The queries that a client tells of in a file, read as it grows."""

    def __init__(self, out: Path) -> None:
        self._out, self._read = out, 0
        self._queries: list[Query] = []

    def queries(self) -> list[Query]:
        with self._out.open("rb") as out:
            out.seek(self._read)
            new = out.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        self._queries += [Query(line) for line in whole.decode().splitlines() if line.startswith("[")]
        return self._queries
