"""Reports of nodes and clients, and the manifest of a mesh that nobody trained."""

from typing import Any

from airmoe.manifest import ExpertSpec, LayerSpec, Manifest, OutputSpec, RadioSpec
from airmoe.mesh.reporters import Reporter
from airmoe.mesh.reports import AskedReport, ClientReport, LinkReport, NodeReport

MODEL = "0123456789abcdef"
BEGAN_S = 1.8e9


def mesh_of(nodes: int, layers: int = 1) -> Manifest:
    """A mesh, as node 0 knows it: each node but the last one has an expert in every layer."""
    return Manifest(
        mesh="lab",
        model_hash=MODEL,
        node=0,
        nodes=nodes,
        layers=[
            LayerSpec(
                layer=layer,
                payload=[4],
                output=OutputSpec(kind="probabilities", shape=[3]),
                placement=[[node] for node in range(nodes - 1)],
                hashes=[MODEL] * (nodes - 1),
            )
            for layer in range(1, layers + 1)
        ],
        serves=[ExpertSpec(layer=layer, expert=0, file=f"{layer}.onnx") for layer in range(1, layers + 1)],
        asks=None,
        classes=["cat", "dog", "<b>"],
        holds=[],
        radio=RadioSpec(seed=0),
        sha256={f"{layer}.onnx": MODEL * 4 for layer in range(1, layers + 1)},
    )


def node(number: int, session: str = "a", **changes: Any) -> tuple[Reporter, NodeReport]:
    """A report of a node that did nothing yet."""
    report = NodeReport(
        node=number,
        model_hash=MODEL,
        classes=["cat"],
        classes_held=1,
        since_s=BEGAN_S,
        answered={},
        items=0,
        refused={},
        busy_s=0.0,
        waiting=0,
        roster=1,
        certificate_ends_s=None,
        ill=None,
    )
    return Reporter(number, f"{session}{number}"), report.model_copy(update=changes)


def client(
    number: int,
    session: str = "c",
    links: list[LinkReport] | None = None,
    since_s: float = BEGAN_S,
    **asked: Any,
) -> tuple[Reporter, ClientReport]:
    """A report of a client at a node."""
    report = ClientReport(
        node=number,
        model_hash=MODEL,
        name=f"node-{number}",
        since_s=since_s,
        asked=AskedReport(**asked),
        links=links or [],
    )
    return Reporter(number, f"{session}{number}"), report
