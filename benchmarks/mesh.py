"""A query through the mesh beside the same bytes over bare Zenoh and over asyncio streams, in turns.

    python benchmarks/mesh.py RUN_FOLDER [--rounds 20] [--queries 50]

Serves all nodes of a run, each a process of its own, and asks from client 0 about one image at a time; a
random gate sends it to 1 or 2 of the other nodes. Beside it, in turns, three floors: a process per node that
answers the same number of bytes with the same number of bytes and computes nothing, over Zenoh as the mesh
uses it, over a TCP stream, and over one with mutual TLS, whose certificate the command `openssl` makes.
Prints p50 and p99 of each, and the ratios of the medians, round by round, with their quartiles; last, what a
query takes that the client's own expert answers.
"""

import argparse
import asyncio
import queue
import socket
import ssl
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import zenoh
from numpy.typing import NDArray

from airmoe.mesh import MeshClient, open_session
from airmoe.mesh.fleet import NodeFleet
from airmoe.mesh.queries import ask
from airmoe.randomness import stream
from airmoe.runfolder import client_folders
from airmoe.scheduling import Local, TopK

SERVER = """
import asyncio, ssl, sys
asked, answered, tls = int(sys.argv[1]), bytes(int(sys.argv[2])), None
if len(sys.argv) > 3:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*sys.argv[3:5])
    tls.load_verify_locations(sys.argv[3])
    tls.verify_mode = ssl.CERT_REQUIRED

async def serve(reader, writer):
    try:
        while True:
            await reader.readexactly(asked)
            writer.write(answered)
    except asyncio.IncompleteReadError:  # the client has gone
        writer.close()

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""

ZENOH_SERVER = """
import sys
from airmoe.mesh import open_session
from airmoe.mesh.queries import reply_to, serve

address, key, answered = sys.argv[1], sys.argv[2], bytes(int(sys.argv[3]))
session = open_session(address)

def answer(query, asker):
    query.payload.to_bytes()
    reply_to(query, answered)

served = serve(session, key, answer)
print(address, flush=True)
sys.stdin.read()
"""


class BareZenoh:
    """Zenoh without the mesh: a process per node, which answers on the network's own thread."""

    def __init__(self, nodes: int, asked_bytes: int, answered_bytes: int) -> None:
        self._asked = bytes(asked_bytes)
        command = [sys.executable, "-c", ZENOH_SERVER]
        self._servers = [
            subprocess.Popen(
                [*command, address, f"benchmark/{node}", str(answered_bytes)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for node, address in enumerate(free_addresses(nodes))
        ]
        self._session = open_session(connect=[first_line(server).strip() for server in self._servers])
        time.sleep(1.0)  # until all are linked

    def close(self) -> None:
        self._session.close()
        for server in self._servers:
            server.kill()
            server.wait()

    def times_s(self, chosen: list[list[int]]) -> list[float]:
        """Return what each query to the chosen nodes takes."""
        times_s, replies = [], queue.SimpleQueue[zenoh.Reply]()

        def arrived(reply: zenoh.Reply | None) -> None:
            if reply is not None:
                replies.put(reply)

        for nodes in chosen:
            begin_s = time.perf_counter()
            for node in nodes:
                ask(self._session, f"benchmark/{node}", "client", self._asked, 2.0, arrived, f"node {node}")
            for _ in nodes:
                ok = replies.get(timeout=2.0).ok
                assert ok is not None
                ok.payload.to_bytes()
            times_s.append(time.perf_counter() - begin_s)
        return times_s


class Certificate(NamedTuple):
    """A certificate, which both ends show and trust, and its key."""

    certificate: str
    key: str

    @classmethod
    def made_in(cls, folder: Path) -> "Certificate":
        made = cls(str(folder / "certificate.pem"), str(folder / "key.pem"))
        what = [
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=floor",
        ]
        command = [
            "openssl",
            "req",
            *what,
            "-subj",
            "/CN=floor",
            "-days",
            "1",
            "-out",
            made.certificate,
            "-keyout",
            made.key,
        ]
        subprocess.run(command, check=True, capture_output=True)
        return made

    def context(self) -> ssl.SSLContext:
        """Return what an asker needs."""
        context = ssl.create_default_context(cafile=self.certificate)
        context.check_hostname = False
        context.load_cert_chain(*self)
        return context


class Streams:
    """The floor: one open stream to a process per node."""

    def __init__(
        self, nodes: int, asked_bytes: int, answered_bytes: int, certificate: Certificate | None = None
    ) -> None:
        self._asked, self._answered_bytes = bytes(asked_bytes), answered_bytes
        files = [] if certificate is None else list(certificate)
        command = [sys.executable, "-c", SERVER, str(asked_bytes), str(answered_bytes), *files]
        tls = None if certificate is None else certificate.context()
        self._servers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(nodes)]
        self._loop = asyncio.new_event_loop()
        self._streams = [
            self._loop.run_until_complete(
                asyncio.open_connection("127.0.0.1", int(first_line(server)), ssl=tls)
            )
            for server in self._servers
        ]

    def close(self) -> None:
        for _, writer in self._streams:
            writer.close()
        self._loop.run_until_complete(asyncio.sleep(0.05))
        self._loop.close()
        for server in self._servers:
            server.kill()
            server.wait()

    def times_s(self, chosen: list[list[int]]) -> list[float]:
        """Return what each query to the chosen nodes takes."""
        return self._loop.run_until_complete(self._times_s(chosen))

    async def _times_s(self, chosen: list[list[int]]) -> list[float]:
        times_s = []
        for nodes in chosen:
            begin_s = time.perf_counter()
            for node in nodes:
                self._streams[node][1].write(self._asked)
            for node in nodes:
                await self._streams[node][0].readexactly(self._answered_bytes)
            times_s.append(time.perf_counter() - begin_s)
        return times_s


def free_addresses(count: int) -> list[str]:
    """Return addresses that nobody uses, all different."""
    with ExitStack() as open_:
        probes = [open_.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [f"127.0.0.1:{probe.getsockname()[1]}" for probe in probes]


def first_line(process: subprocess.Popen[str]) -> str:
    """Return what a process says first."""
    assert process.stdout is not None
    return process.stdout.readline()


class Mesh:
    """Client 0 of a run, whose items a random gate sends to nodes that are told beforehand."""

    def __init__(self, client: MeshClient, image_1CHW: NDArray[np.uint8]) -> None:
        self._client, self._image_1CHW = client, image_1CHW
        self._nodes: list[int] = []

    def times_s(self, chosen: list[list[int]]) -> list[float]:
        """Return what each query to the chosen nodes takes."""
        times_s = []
        for self._nodes in chosen:
            answer = self._client.predict(self._image_1CHW, gate=self._prefer, policy=TopK(len(self._nodes)))
            if answer.degraded_T.any():
                raise SystemExit(f"nodes {self._nodes} did not all answer; run this on a quiet machine")
            times_s.append(answer.elapsed_s)
        return times_s

    def _prefer(
        self, payload_T: NDArray[np.float32], snr_db_TE: NDArray[np.float64] | None
    ) -> NDArray[np.float32]:
        """Run the real gate, whose cost belongs to a query, and like the chosen nodes best."""
        scores_TE = self._client.gate(payload_T, snr_db_TE)
        scores_TE[:, self._nodes] += 10
        return scores_TE


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run_folder", type=Path)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--queries", type=int, default=50, help="of each kind in a round")
    arguments = parser.parse_args()
    folders = client_folders(arguments.run_folder)
    random = stream(0, "mesh benchmark")
    with ExitStack() as open_:
        fleet = open_.enter_context(NodeFleet(folders))
        client = open_.enter_context(
            MeshClient(folders[0], fleet.addresses, hedge_s=1.0, identity=fleet.identities[0])
        )
        client.wait_for_nodes(len(folders), 30.0)
        asks = client.manifest.asks
        assert asks is not None
        shape = (1, asks.input.channels, asks.input.height, asks.input.width)
        mesh = Mesh(client, random.integers(0, 256, shape, np.uint8))
        others = range(1, len(folders))
        probe = client.predict(np.zeros(shape, np.uint8), policy="all").dispatched
        assert probe.arrived_TE.all()
        one = client.predict(np.zeros(shape, np.uint8), policy="topk:1", gate=only(1, len(folders)))
        asked_answered = one.sent_bytes, one.received_bytes
        bare = Streams(len(folders), *asked_answered)
        open_.callback(bare.close)
        folder = Path(open_.enter_context(TemporaryDirectory()))
        tls = Streams(len(folders), *asked_answered, Certificate.made_in(folder))
        open_.callback(tls.close)
        zenoh_alone = BareZenoh(len(folders), *asked_answered)
        open_.callback(zenoh_alone.close)
        sides = {
            "mesh": mesh.times_s,
            "bare Zenoh": zenoh_alone.times_s,
            "streams with TLS": tls.times_s,
            "bare streams": bare.times_s,
        }
        print(f"{len(folders)} nodes; a request of {one.sent_bytes} bytes, a reply of {one.received_bytes}")
        for experts in (1, 2):
            chosen = [
                [random.choice(others, experts, replace=False).tolist() for _ in range(arguments.queries)]
                for _ in range(arguments.rounds + 1)
            ]
            tell(f"top-{experts}", measured(sides, chosen))
        own_s = [client.predict(np.zeros(shape, np.uint8), policy=Local()).elapsed_s for _ in range(1000)]
        print(f"own expert, nothing sent: p50 {statistics.median(own_s) * 1e3:.2f} ms")


def only(node: int, nodes: int) -> Callable[..., NDArray[np.float32]]:
    """Return a gate that likes one node alone."""
    return lambda payload_T, snr_db_TE: np.eye(nodes, dtype=np.float32)[[node] * len(payload_T)]


def measured(
    sides: dict[str, Callable[[list[list[int]]], list[float]]], chosen: list[list[list[int]]]
) -> dict[str, list[list[float]]]:
    """Return the seconds of each query, by side and round; the first round of each warms up."""
    took_s: dict[str, list[list[float]]] = {name: [] for name in sides}
    for number, of_round in enumerate(chosen):
        for name, side in sides.items():
            times_s = side(of_round)
            if number:
                took_s[name].append(times_s)
    return took_s


def tell(what: str, took_s: dict[str, list[list[float]]]) -> None:
    """Print quantiles of all sides, and the ratios of the first one's median to the others', by round."""
    for name, rounds in took_s.items():
        p50, p99 = np.quantile(np.concatenate([np.array(each) for each in rounds]), [0.5, 0.99]) * 1e3
        print(f"{what}, {name}: p50 {p50:.2f} ms, p99 {p99:.2f} ms, p99 / p50 {p99 / p50:.1f}")
    first, *others = took_s
    for other in others:
        pairs = zip(took_s[first], took_s[other], strict=True)
        ratios = [statistics.median(ours) / statistics.median(theirs) for ours, theirs in pairs]
        low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
        print(f"{what}, {first} / {other}: {middle:.2f} (quartiles {low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
