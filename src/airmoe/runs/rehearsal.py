"""What a training will write is tried before it begins: what cannot be written is known at once."""

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
from airmoe.runfolder import EXTRACTOR, GATE, expert_file

_ASKING = AskingSpec(
    input=InputSpec(channels=3, height=32, width=32),
    extractor=EXTRACTOR,
    gates=[GateSpec(layer=1, file=GATE)],
)


def rehearse_manifests(
    *,
    mesh: str,
    class_names: tuple[str, ...],
    holds: Sequence[Sequence[int]],
    radio: RadioSpec,
    server: bool = False,
) -> None:
    """Make the manifest of every node, as `airmoe.runs.export_run` will, and write none.

    Raises:
        InvalidInputError: a manifest cannot hold a value, or not all of them together.
    """
    clients = len(holds)
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
            placement=[[client] for client in range(clients)],
        )
        for node in range(clients + server):
            serves = [ExpertSpec(layer=1, expert=node, file=expert_file(node))] if node < clients else []
            asks = _ASKING if not server or node == clients else None
            files = [each.file for each in serves] + ([] if asks is None else [EXTRACTOR, GATE])
            Manifest(
                mesh=mesh,
                model_hash="0" * 16,
                node=node,
                nodes=clients + server,
                layers=[layer],
                serves=serves,
                asks=asks,
                classes=list(class_names),
                holds=list(holds[node]) if node < clients else [],
                radio=radio,
                sha256=dict.fromkeys(files, "0" * 64),
            )
    except ValidationError as error:
        raise refusal(error, lambda key: key or "run") from None
