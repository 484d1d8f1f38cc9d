"""The manifests of a run's nodes, before any file is written: what is wrong with them is known at once."""

from collections.abc import Sequence

from pydantic import ValidationError

from airmoe.errors import InvalidInputError
from airmoe.manifest import (
    AskingSpec,
    ExpertSpec,
    GateSpec,
    InputSpec,
    LayerSpec,
    Manifest,
    OutputSpec,
    RadioSpec,
)
from airmoe.records import refusal
from airmoe.runfolder import EXTRACTOR, GATE, SERVER, expert_file

NOT_YET = "0" * 64
"""Stands for the digest of what is not written yet."""


def node_manifests(
    layer: LayerSpec,
    asking: AskingSpec,
    *,
    mesh: str,
    class_names: Sequence[str],
    holds: Sequence[Sequence[int]],
    radio: RadioSpec,
    server: bool = False,
) -> dict[str, Manifest]:
    """Return the manifest of every node by the name of its folder; model hash and digests are stand-ins.

    Args:
        layer: the layer that the experts are of; its placement says who serves what.
        asking: what those who ask have.
        mesh: the mesh.
        class_names: a name per class.
        holds: for each client the classes in its data.
        radio: the simulated radio.
        server: True if a node after the clients asks alone; False if every client asks.

    Raises:
        ValidationError: a manifest cannot hold a value, or not all of them together.
    """
    clients, manifests = len(holds), {}
    for node in range(clients + server):
        serves = [ExpertSpec(layer=1, expert=each, file=expert_file(each)) for each in layer.experts_on(node)]
        asks = asking if not server or node == clients else None
        files = [each.file for each in serves] + ([] if asks is None else [EXTRACTOR, GATE])
        manifests[f"{node:02d}" if node < clients else SERVER] = Manifest(
            mesh=mesh,
            model_hash=NOT_YET[:16],
            node=node,
            nodes=clients + server,
            layers=[layer],
            serves=serves,
            asks=asks,
            classes=list(class_names),
            holds=list(holds[node]) if node < clients else [],
            radio=radio,
            sha256=dict.fromkeys(files, NOT_YET),
        )
    return manifests


def rehearse_manifests(
    *,
    mesh: str,
    class_names: tuple[str, ...],
    holds: Sequence[Sequence[int]],
    radio: RadioSpec,
    server: bool = False,
) -> None:
    """Make the manifests that `airmoe.runs.export_run` will write, expert e at node e, and write none.

    Raises:
        InvalidInputError: a manifest cannot hold a value, or not all of them together.
    """
    for name in class_names:
        if not name.isascii() and name != name.encode(errors="replace").decode():
            raise InvalidInputError(
                "name of a class", name, "one in Unicode: its folder has a name in no UTF-8"
            )
    try:
        layer = LayerSpec(
            layer=1,
            payload=[1],
            output=OutputSpec(kind="probabilities", shape=[len(class_names)]),
            placement=[[client] for client in range(len(holds))],
            hashes=[NOT_YET[:16]] * len(holds),
        )
        asking = AskingSpec(
            input=InputSpec(channels=3, height=32, width=32),
            extractor=EXTRACTOR,
            gates=[GateSpec(layer=1, file=GATE)],
        )
        node_manifests(
            layer,
            asking,
            mesh=mesh,
            class_names=class_names,
            holds=holds,
            radio=radio,
            server=server,
        )
    except ValidationError as error:
        raise refusal(error, lambda key: key or "run") from None
