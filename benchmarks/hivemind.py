"""Many items to four experts through the mesh, beside hivemind on the same shapes, in turns.

    python -m venv .venv-hivemind
    .venv-hivemind/bin/pip install torch==2.13.0 hivemind
    python benchmarks/hivemind.py RUN_FOLDER [--python .venv-hivemind/bin/python] [--rounds 12] [--items 128]

Serves nodes 0 to 4 of a run, each a process of its own. Client 0 asks the experts of nodes 1 to 4 about
all items. Its time is that from images to answers: the extractor, the gate and the policy count.
Beside it, in turns, hivemind in the other environment: a server with four experts of the same layers (the
payload's values, 256, classes, softmax), and a client on this machine that asks all four about as many ready
payloads. It asks in two ways: by `RemoteMixtureOfExperts`, which sends each item alone, and by four
`RemoteExpert` side by side, each with all items at once. One thread computes in each process of both.

Prints the median of each, and the ratios of the times, round by round, with their quartiles.
"""

import argparse
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from airmoe.mesh import MeshClient
from airmoe.mesh.fleet import NodeFleet
from airmoe.randomness import stream
from airmoe.runfolder import client_folders
from airmoe.scheduling import TopK

ASKED = (1, 2, 3, 4)
HIDDEN = 256
SIDE = Path(__file__).with_name("hivemind_side.py")
WAYS = ("mixture", "experts")
CALLED = {"mixture": "RemoteMixtureOfExperts", "experts": "four RemoteExperts"}


class Hivemind:
    """Server and client of hivemind in a process of its own, which does one query for each line it reads."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._read("ready")

    def time_s(self, way: str) -> float:
        """Return what one query takes."""
        assert self._process.stdin is not None
        print(way, file=self._process.stdin, flush=True)
        return float(self._read(way))

    def _read(self, name: str) -> str:
        """Return what stands behind a name on the next line that begins with it; the rest is chatter."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(name):
                return line.removeprefix(name)
        raise SystemExit("hivemind ended; its last words stand above")


@contextmanager
def hivemind(
    python: Path, items: int, payload: int, outputs: int, *, hidden: int = HIDDEN, k: int = len(ASKED)
) -> Iterator[Hivemind]:
    """Start it: four experts payload-hidden-outputs, of which ``k`` are asked about each item."""
    # -P: beside the script lies one that is named as the package is.
    command = [str(python), "-P", str(SIDE), *map(str, (items, payload, hidden, outputs, k))]
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    except OSError as error:
        raise SystemExit(f"{python}: {error.strerror}; --help says how to install hivemind") from None
    try:
        yield Hivemind(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def mesh_query(client: MeshClient, items: int) -> Callable[[], float]:
    """Return a query about so many images, which asks all of `ASKED` about each."""
    asks = client.manifest.asks
    assert asks is not None
    shape = (items, asks.input.channels, asks.input.height, asks.input.width)
    images_TCHW = stream(0, "hivemind benchmark").integers(0, 256, shape, np.uint8)

    def prefer(payload_T: NDArray[np.float32], snr_db_TE: NDArray[np.float64] | None) -> NDArray[np.float32]:
        scores_TE = client.gate(payload_T, snr_db_TE)  # its cost belongs to a query
        scores_TE[:, ASKED] += 10
        return scores_TE

    def time_s() -> float:
        begin_s = time.perf_counter()
        answer = client.predict(images_TCHW, gate=prefer, policy=TopK(len(ASKED)), deadline_s=60.0)
        took_s = time.perf_counter() - begin_s
        if not answer.dispatched.arrived_TE[:, ASKED].all():
            raise SystemExit(f"experts {ASKED} did not all answer; run this on a quiet machine")
        return took_s

    return time_s


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run_folder", type=Path)
    parser.add_argument("--python", type=Path, default=Path(".venv-hivemind/bin/python"))
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--items", type=int, default=128)
    arguments = parser.parse_args()
    folders = client_folders(arguments.run_folder)[: max(ASKED) + 1]
    with (
        NodeFleet(folders) as fleet,
        MeshClient(folders[0], fleet.addresses, hedge_s=10.0, identity=fleet.identities[0]) as client,
    ):
        client.wait_for_nodes(len(folders), 30.0)
        query, spec = mesh_query(client, arguments.items), client.layer.spec
        shapes = spec.payload_values, spec.output.shape[0]
        with hivemind(arguments.python, arguments.items, *shapes) as other:
            sides = {"mesh": query, **{way: lambda way=way: other.time_s(way) for way in WAYS}}
            times_s = measured(sides, arguments.rounds)
    print(f"{arguments.items} items of {shapes[0]} values to {len(ASKED)} experts, {shapes[1]} values back")
    print(f"mesh, from images: median {1e3 * np.median(times_s['mesh']):.1f} ms")
    for way in WAYS:
        ratio = np.array(times_s[way]) / np.array(times_s["mesh"])
        print(f"{CALLED[way]}: median {1e3 * np.median(times_s[way]):.1f} ms, {spread_of(ratio)} times")


def spread_of(ratio: ArrayLike) -> str:
    """Return the median and the quartiles."""
    low, middle, high = np.quantile(ratio, (0.25, 0.5, 0.75))
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def measured(sides: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each side in each round, after one round that warms up."""
    taken = [{name: ask() for name, ask in sides.items()} for _ in range(rounds + 1)]
    return {name: [each[name] for each in taken[1:]] for name in sides}


if __name__ == "__main__":
    main()
