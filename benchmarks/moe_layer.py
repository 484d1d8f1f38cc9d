"""One MoE layer's forward over a mesh, beside hivemind's of the same shapes and bare sockets, in turns.

    python -m venv .venv-hivemind
    .venv-hivemind/bin/pip install torch==2.13.0 hivemind
    python benchmarks/moe_layer.py [--python .venv-hivemind/bin/python] [--rounds 12] [--tokens 128]

Four experts 512-2048-512 (two linear layers and ReLU), two for each token by a linear gate; each expert is a
process of its own, and none runs at the source. Ours: `MoeLayer` with a `MeshSource`'s calls, from hidden
states to mixed hidden states. hivemind: `RemoteMixtureOfExperts` with a server of these experts, in its own
environment. Bare sockets: the same networks in ONNX Runtime behind asyncio streams, one message for each
expert, all at once, the same tokens to the same experts; nothing is gated or mixed there. One thread computes
in each process. Prints the median of each (of seven calls a round, of one for hivemind), and the ratios of
the times, round by round, with their quartiles.
"""

import argparse
import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from hivemind import hivemind, spread_of  # benchmarks/hivemind.py
from numpy.typing import NDArray
from torch import Tensor, nn

from airmoe.language import MeshSource
from airmoe.language.transformer import Router
from airmoe.manifest import RadioSpec
from airmoe.mesh.fleet import NodeFleet
from airmoe.mesh.local_identities import local_identity
from airmoe.nn import MoeLayer
from airmoe.runfolder import client_folders, layer_expert_file
from airmoe.runs.export_layers import export_layers

WIDTH, HIDDEN, EXPERTS, K = 512, 2048, 4, 2
REPEATED, PAUSE_S = 7, 0.3
"""How often the quick sides are asked in a round, and the pause before each side's turn."""

SERVER = """
import asyncio, sys
import numpy as np
from airmoe.onnx_runtime import onnx_session
session, width = onnx_session(sys.argv[1]), int(sys.argv[2])

async def serve(reader, writer):
    try:
        while True:
            rows = int.from_bytes(await reader.readexactly(4), "little")
            data = await reader.readexactly(4 * rows * width)
            rows_TW = np.frombuffer(data, np.float32).reshape(rows, width)
            writer.write(session.run(None, {"input": rows_TW})[0].tobytes())
    except asyncio.IncompleteReadError:
        writer.close()

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 24)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


class Sockets:
    """A process for each expert, behind a stream."""

    def __init__(self, networks: list[Path], open_: ExitStack) -> None:
        self._loop = asyncio.new_event_loop()
        open_.callback(self._loop.close)
        self._streams = []
        for network in networks:
            command = [sys.executable, "-c", SERVER, str(network), str(WIDTH)]
            process = open_.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            open_.callback(process.kill)
            assert process.stdout is not None
            port = int(process.stdout.readline())
            connecting = asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
            self._streams.append(self._loop.run_until_complete(connecting))

    def ask(self, rows_EI: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Return the outputs of all experts about their tokens."""
        return self._loop.run_until_complete(self._ask(rows_EI))

    async def _ask(self, rows_EI: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        for (_, writer), rows_IW in zip(self._streams, rows_EI, strict=True):
            writer.write(len(rows_IW).to_bytes(4, "little") + rows_IW.tobytes())
        return [
            np.frombuffer(await reader.readexactly(rows_IW.nbytes), np.float32).reshape(rows_IW.shape)
            for (reader, _), rows_IW in zip(self._streams, rows_EI, strict=True)
        ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", type=Path, default=Path(".venv-hivemind/bin/python"))
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=128)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    experts = [
        nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, WIDTH)) for _ in range(EXPERTS)
    ]
    layer = MoeLayer(Router(WIDTH, EXPERTS), experts, policy=f"topk:{K}", source=EXPERTS).eval()
    hidden_TW = torch.randn(arguments.tokens, WIDTH)
    with TemporaryDirectory(prefix="airmoe-") as made, ExitStack() as open_, torch.inference_mode():
        export_layers(made, [experts], WIDTH, radio=RadioSpec(seed=0), server=True)
        folders = client_folders(made)
        fleet = open_.enter_context(NodeFleet(folders))
        source = open_.enter_context(
            MeshSource(
                f"{made}/clients/server",
                fleet.addresses,
                hedge_s=10.0,
                identity=local_identity(Path(f"{made}/clients/server")),
            )
        )
        if not source.wait_for_all(30):
            raise SystemExit("not all nodes were found")
        calls = source.calls()
        networks = [folder / layer_expert_file(1, expert) for expert, folder in enumerate(folders)]
        sockets = Sockets(networks, open_)
        other = open_.enter_context(
            hivemind(arguments.python, arguments.tokens, WIDTH, WIDTH, hidden=HIDDEN, k=K)
        )
        here = layer(hidden_TW)
        chosen_TE = here.dispatched.arrived_TE

        def ours() -> float:
            begin_s = time.perf_counter()
            with calls(1) as call:
                done = layer(hidden_TW, policy=call.policy, carrier=call.carrier, deadline_s=60.0)
            took_s = time.perf_counter() - begin_s
            torch.testing.assert_close(done.y_TC, here.y_TC, rtol=1e-4, atol=1e-4)
            return took_s

        def bare() -> float:
            begin_s = time.perf_counter()
            outputs = sockets.ask([_rows(hidden_TW, chosen_TE[:, expert]) for expert in range(EXPERTS)])
            took_s = time.perf_counter() - begin_s
            assert sum(map(len, outputs)) == arguments.tokens * K
            return took_s

        sides = {
            "mesh": ours,
            "bare sockets": bare,
            "RemoteMixtureOfExperts": lambda: other.time_s("mixture"),
        }
        # hivemind's processes are still at work for a moment after an answer, so it comes last.
        taken = [
            {
                name: _median_s(ask, 1 if name.startswith("Remote") else REPEATED)
                for name, ask in sides.items()
            }
            for _ in range(arguments.rounds + 1)
        ][1:]
    print(f"{arguments.tokens} tokens, {EXPERTS} experts {WIDTH}-{HIDDEN}-{WIDTH}, {K} for each token")
    for name in sides:
        took_ms = [1e3 * each[name] for each in taken]
        ratio = [each[name] / each["mesh"] for each in taken]
        print(f"{name}: median {np.median(took_ms):.1f} ms, {spread_of(ratio)} times the mesh's")


def _median_s(ask: Callable[[], float], times: int) -> float:
    time.sleep(PAUSE_S)
    return float(np.median([ask() for _ in range(times)]))


def _rows(hidden_TW: Tensor, chosen_T: NDArray[np.bool_]) -> NDArray[np.float32]:
    return np.ascontiguousarray(hidden_TW.numpy()[chosen_T])


if __name__ == "__main__":
    main()
