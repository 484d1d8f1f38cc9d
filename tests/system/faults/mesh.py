"""A run's nodes as processes that are killed, frozen, wedged, slowed down and mended, and what they know.

Shape suffixes: T images, E experts, C classes.
"""

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airmoe.data import as_pixels
from airmoe.dispatch.mixing import mixing_weights
from airmoe.manifest import INPUT, Manifest, read_manifest
from airmoe.mesh import MeshClient
from airmoe.mesh.networks import OnnxGate, OnnxNetwork
from airmoe.runfolder import EXTRACTOR, GATE, client_folders, expert_file
from tests.mesh.ports import free_address
from tests.mesh.processes import NodeProcess
from tests.system.faults.identities import identity_here

_BURDENED = """
import hashlib, time
from airmoe.mesh.networks import OnnxNetwork
computes = OnnxNetwork.__call__
def compute(turns):  # as an expert does: in one call that holds no lock of Python's
    hashlib.pbkdf2_hmac("sha256", b"", b"", turns)
def took_s(turns):
    begin_s = time.thread_time()
    compute(turns)
    return time.thread_time() - begin_s
turn_s = min(took_s(20_000) for _ in range(5)) / 20_000
def burdened(network, *arrays_T):
    {what}
    return computes(network, *arrays_T)
OnnxNetwork.__call__ = burdened
"""
_SLEEP = "time.sleep({seconds})"
_COMPUTE = "compute(max(round({seconds} / turn_s), 1))"
FOUND_S = 60.0
"""How long the nodes of a busy machine may take until they are found."""

WEDGED_S = 3600.0


class FaultyMesh:
    """Some nodes of a run, each a process; all ends with the block.

    Args:
        run: the run folder.
        absent: nodes that are not started.
    """

    def __init__(self, run: Path, absent: Collection[int] = ()) -> None:
        self.run, self.folders = run, client_folders(run)
        self.manifest: Manifest = read_manifest(self.folders[0])
        self.addresses = [free_address() for _ in self.folders]
        self._nodes: dict[int, NodeProcess] = {}
        self._present = [node for node in range(len(self.folders)) if node not in absent]

    def __enter__(self) -> "FaultyMesh":
        try:
            self.start(*self._present)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        for node in list(self._nodes):
            self._nodes.pop(node).destroy()

    def start(self, *nodes: int) -> None:
        """Start nodes, or start them again at their addresses, and wait until they serve."""
        for node in nodes:
            others = [address for address in self.addresses if address != self.addresses[node]]
            self._nodes[node] = NodeProcess(self.folders[node], self.addresses[node], others[:2], quiet=True)
        for node in nodes:
            self._nodes[node].wait_until_serving()

    def kill(self, *nodes: int) -> None:
        for node in nodes:
            self._nodes.pop(node).destroy()

    def freeze(self, *nodes: int) -> None:
        for node in nodes:
            self._nodes[node].freeze()

    def thaw(self, *nodes: int) -> None:
        for node in nodes:
            self._nodes[node].thaw()

    def slow_down(self, node: int, seconds: float = WEDGED_S) -> None:
        """Have a node's experts wait so long before each request; by default they never answer."""
        self._precede(node, _SLEEP.format(seconds=seconds))

    def burden(self, node: int, seconds: float) -> None:
        """Have a node's experts need so much more processor time for each request."""
        self._precede(node, _COMPUTE.format(seconds=seconds))

    def _precede(self, node: int, what: str) -> None:
        code = _BURDENED.format(what=what)
        assert self._nodes[node].ask(f"exec({code!r}, {{}})") == "None"

    def pid(self, node: int) -> int:
        return self._nodes[node].pid

    @contextmanager
    def client(self, number: int = 0, **options: Any) -> Iterator[MeshClient]:
        """A client that knows all addresses and has found all nodes that were started."""
        folder = self.folders[number]
        identity = identity_here(folder)
        with MeshClient(folder, self.addresses, identity=identity, **options) as client:
            client.wait_for_nodes(len(self._nodes), FOUND_S)
            yield client


class Oracle:
    """What gate and experts of a run say about images, computed here from its files alone.

    Attributes:
        scores_TE: the gate's scores.
        output_TEC: what each expert answers.
    """

    def __init__(self, run: Path, images_TCHW: NDArray[np.uint8]) -> None:
        folders = client_folders(run)
        manifest = read_manifest(folders[0])
        (layer,) = manifest.layers
        payload, output = tuple(layer.payload), tuple(layer.output.shape)
        extractor = OnnxNetwork(run / "shared" / EXTRACTOR, {INPUT: images_TCHW.shape[1:]}, payload)
        payload_T = extractor(as_pixels(images_TCHW))
        gate = OnnxGate(run / "shared" / GATE, layer, sees_snr=False)
        self.scores_TE: NDArray[np.float64] = gate(payload_T, None).astype(np.float64)
        files = [folders[nodes[0]] / expert_file(number) for number, nodes in enumerate(layer.placement)]
        outputs = [OnnxNetwork(file, {INPUT: payload}, output)(payload_T) for file in files]
        self.output_TEC = np.stack(outputs, axis=1)

    def wanted_TE(self, experts: int) -> NDArray[np.bool_]:
        """The experts of the highest scores: what top-k asks when all are alive."""
        wanted_TE = np.zeros(self.scores_TE.shape, np.bool_)
        best_TK = np.argsort(-self.scores_TE, axis=1, kind="stable")[:, :experts]
        np.put_along_axis(wanted_TE, best_TK, True, axis=1)
        return wanted_TE

    def mixed_TC(
        self, arrived_TE: NDArray[np.bool_], items: Sequence[int] | NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """What the answer about some images is if these experts answered."""
        weights_TE = mixing_weights(self.scores_TE[items], arrived_TE)
        return np.asarray(np.einsum("te,tec->tc", weights_TE, self.output_TEC[items]))


def resident_mb(pid: int | str = "self") -> float:
    """The resident memory of a process in MB (10^6 bytes)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def descriptors(pid: int | str = "self") -> int:
    """How many files and sockets a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
