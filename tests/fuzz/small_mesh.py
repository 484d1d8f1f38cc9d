"""A mesh of two nodes with networks of 195 bytes, the same to the bit at every run."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from airmoe.manifest import (
    AskingSpec,
    ExpertSpec,
    GateSpec,
    InputSpec,
    LayerSpec,
    Manifest,
    OutputKind,
    OutputSpec,
    RadioSpec,
    write_manifest,
)
from airmoe.mesh.frame import Frame, Kind
from airmoe.mesh.slot_messages import SlotRequest, request_arrays
from airmoe.runfolder import sha256_of
from airmoe.scheduling import Cost, Routing, Slot, TopK
from airmoe.scheduling.policy import routing_of

EXPERT = Path(__file__).parent / "expert.onnx"
"""Softmax of payloads (T, 3) times a matrix (3, 4)."""

EXPERTS, NODES, CLASSES, FEATURES = 2, 2, 4, 3


@dataclass(frozen=True)
class FirstReachable:
    """A joint policy that needs no compiler: every item goes to the first expert that can be asked."""

    name, joint, fallback = "first", True, TopK(1)

    def route(self, scores_TE: ArrayLike, cost: Cost, slot: Slot) -> Routing:
        reachable_TE = cost.reachable_TE
        mask_TE = reachable_TE & (np.cumsum(reachable_TE, axis=1) == 1)
        routing = routing_of(mask_TE, cost)
        subcarrier_NN = np.array([[-1, 0], [1, -1]])
        return Routing(mask_TE, routing.energy_j_T, routing.feasible_T, subcarrier_NN)


def manifest_of_node_0(kind: OutputKind = "probabilities") -> Manifest:
    digest = sha256_of(EXPERT)
    layer = LayerSpec(
        layer=1,
        payload=[FEATURES],
        output=OutputSpec(kind=kind, shape=[CLASSES]),
        placement=[[0], [1]],
        hashes=[digest[:16]] * EXPERTS,
    )
    return Manifest(
        mesh="fuzzed",
        model_hash="0123456789abcdef",
        node=0,
        nodes=NODES,
        layers=[layer],
        serves=[ExpertSpec(layer=1, expert=0, file=EXPERT.name)],
        asks=AskingSpec(
            input=InputSpec(channels=1, height=1, width=3),
            extractor="extractor.onnx",
            gates=[GateSpec(layer=1, file="gate.onnx")],
        ),
        classes=["a", "b", "c", "d"],
        holds=[0],
        radio=RadioSpec(subcarriers=2, seed=0),
        sha256={EXPERT.name: digest, "extractor.onnx": digest, "gate.onnx": digest},
    )


def make_node_0(folder: Path) -> None:
    """Write the folder of node 0."""
    manifest = manifest_of_node_0()
    for name in manifest.files:
        shutil.copy(EXPERT, folder / name)
    write_manifest(folder, manifest)


def payloads(items: int = 2, **changes: Any) -> Frame:
    """A good request to expert 0."""
    manifest = manifest_of_node_0()
    fields = {
        "kind": Kind.PAYLOADS,
        "arrays": {"payload": np.arange(items * FEATURES, dtype=np.float32).reshape(items, FEATURES)},
        "request_id": 7,
        "model_hash": manifest.model_hash,
        "layer": 1,
        "expert": 0,
        "remaining_ms": 5000,
        "expert_hash": manifest.layer(1).hashes[0],
    }
    return Frame(**(fields | changes))


def outputs(items: int = 2, **changes: Any) -> Frame:
    """A good reply to it."""
    output_TC = np.full((items, CLASSES), 1 / CLASSES, np.float32)
    fields = {"kind": Kind.OUTPUTS, "arrays": {"output": output_TC}, "remaining_ms": 0}
    return payloads(items, **(fields | changes))


def slot_request(items: int = 2) -> SlotRequest:
    """A good request for a schedule."""
    return SlotRequest(
        0,
        np.arange(EXPERTS),
        np.full(items, 128.0),
        np.full((items, EXPERTS), 0.5),
        np.ones((items, EXPERTS), np.bool_),
    )


def items(request: SlotRequest, **changes: Any) -> Frame:
    """Its frame."""
    fields = {"kind": Kind.ITEMS, "arrays": request_arrays("first", request), "expert": None}
    return payloads(**(fields | {"expert_hash": "0" * 16} | changes))
