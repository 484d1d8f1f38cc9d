"""Every expert of a mesh asked about one item: who answers, how soon, and what is wrong with the others.

Shape suffixes: I items.
"""

import time
from typing import Literal, NamedTuple

import numpy as np

from airmoe.mesh.keys import Replica
from airmoe.mesh.layer import MeshLayer
from airmoe.mesh.layers import MeshLayers
from airmoe.mesh.requests import Asked, Request, Requests, Traffic

Heard = Literal["answers", "silent", "refuses", "not alive"]


class RollCall(NamedTuple):
    """What one replica of an expert said.

    Attributes:
        layer: number of the layer.
        expert, node: the replica.
        heard: "answers"; "refuses", also with a reply that is wrong, as the log says; "silent", where
            nothing came in time; or "not alive", where nobody serves it.
        seconds: until the answer; None where there is none.
    """

    layer: int
    expert: int
    node: int
    heard: Heard
    seconds: float | None


def call_roll(mesh: MeshLayers, timeout_s: float = 2.0) -> list[RollCall]:
    """Ask every replica of every expert about one item of zeros, those of this client's own folder as well.

    Args:
        mesh: the layers; whoever is known to be alive is asked.
        timeout_s: how long all have together in each layer.
    """
    return [heard for layer in mesh.layers for heard in _call(layer, timeout_s)]


def _call(layer: MeshLayer, timeout_s: float) -> list[RollCall]:
    alive, spec = layer.liveliness.alive, layer.spec
    payload_1 = np.zeros((1, *spec.payload), np.float32)
    requests, sent_s, end_s = Requests(layer, Traffic()), dict[Replica, float](), 0.0
    heard: dict[Replica, tuple[Heard, float | None]] = {}
    for expert, nodes in enumerate(spec.placement):
        for node in nodes:
            replica = Replica(expert, node)
            if replica in alive:
                heard[replica], sent_s[replica] = ("silent", None), time.monotonic()
                requests.send(node, [Asked(expert, np.zeros(1, np.int64), payload_1)], timeout_s)
            else:
                heard[replica] = "not alive", None
    end_s = time.monotonic() + timeout_s
    while requests.open and (request := requests.answer(end_s)) is not None:
        heard[request.replica] = _what_came(request, sent_s[request.replica])
    requests.close()
    return [
        RollCall(spec.layer, replica.expert, replica.node, what, seconds)
        for replica, (what, seconds) in heard.items()
    ]


def _what_came(request: Request, sent_s: float) -> tuple[Heard, float | None]:
    return ("refuses", None) if request.output_I is None else ("answers", time.monotonic() - sent_s)
