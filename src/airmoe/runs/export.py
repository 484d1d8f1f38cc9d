"""Write a trained mixture to a run folder: safetensors for training, ONNX for serving.

Shape suffixes: T items, C channels, H height, W width.
"""

import operator
from collections.abc import Sequence
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from airmoe.checks import refuse_type
from airmoe.errors import InvalidInputError
from airmoe.files import AnyPath, as_path
from airmoe.manifest import (
    INPUT,
    AskingSpec,
    GateSpec,
    InputSpec,
    LayerSpec,
    OutputKind,
    OutputSpec,
    RadioSpec,
    write_manifest,
)
from airmoe.nn import MixtureOfExperts, NoisyTopK, PersonalGates
from airmoe.nn.personal_gates import gates_of
from airmoe.records import refusal
from airmoe.runfolder import (
    EXTRACTOR,
    EXTRACTOR_WEIGHTS,
    GATE,
    GATE_WEIGHTS,
    SERVER,
    expert_file,
    folder_of_client,
    model_hash_of,
    sha256_of,
)
from airmoe.runs.aside import nodes_of_experts, share, written_aside
from airmoe.runs.manifests import NOT_YET, node_manifests
from airmoe.runs.onnx_files import export_gate, export_onnx, gate_sees
from airmoe.runs.weights import save_weights


def export_run(
    folder: AnyPath,
    model: MixtureOfExperts,
    example_TCHW: Tensor,
    *,
    mesh: str,
    class_names: tuple[str, ...],
    holds: Sequence[Sequence[int]],
    radio: RadioSpec,
    placement: Sequence[Sequence[int]] | None = None,
    server: bool = False,
    gate_sees_snr: bool | None = None,
    output: OutputKind = "probabilities",
) -> None:
    """Write ``shared/`` and ``clients/`` of a run; every client's folder is whole and can be moved.

    Nothing is left of it if it fails. A noisy gate is written without its noise. An expert's safetensors are
    written once, to the folder of the first node that serves it. Of `airmoe.nn.PersonalGates` each client
    gets its own.

    Args:
        folder: the run folder, without ``shared/`` and ``clients/``.
        model: the trained mixture.
        example_TCHW: a few real images, float32 in [0, 1], for the check.
        mesh: name of the mesh.
        class_names: of all classes.
        holds: for each client the classes in its data; client n is node n.
        radio: the simulated radio.
        placement: for each expert the nodes that serve it; default expert e at node e.
        server: True adds the node ``clients/server``, which alone asks, while the clients only serve their
            experts; False lets every client ask for itself.
        gate_sees_snr: False for a gate that was trained blind to the links; default what the gate says.
        output: what the experts return.

    Raises:
        InvalidInputError: the folder holds a run, the gate does not say whether it sees the SNR, or another
            argument is out of range or does not fit the model.
        RunFolderError: an exported network gives other outputs than PyTorch.
    """
    folder = as_path(folder)
    refuse_type("model", model, MixtureOfExperts)
    _check_example(example_TCHW)
    gate: nn.Module = model.layer.gate.gate if isinstance(model.layer.gate, NoisyTopK) else model.layer.gate
    experts, pooling = list(model.layer.experts), model.layer.pooling
    sees_snr = gate_sees(gate, gate_sees_snr)
    held = _checked_holds(holds)
    _check_gates(gate, len(held), server)
    nodes_of = nodes_of_experts(placement, len(experts), len(held), server)
    try:
        with torch.no_grad():
            payload_T = model.extractor.eval()(example_TCHW)
            output_T = experts[0].eval()(payload_T)
    except RuntimeError as error:  # so PyTorch refuses a shape
        expected = f"images of the size and the channels that the model was built for ({error})"
        raise InvalidInputError("shape of example_TCHW", tuple(example_TCHW.shape), expected) from error
    channels, height, width = example_TCHW.shape[1:]
    try:
        layer = LayerSpec(
            layer=1,
            payload=list(payload_T.shape[1:]),
            output=OutputSpec(kind=output, shape=list(output_T.shape[1:])),
            placement=nodes_of,
            hashes=[NOT_YET[:16]] * len(experts),
        )
        asking = AskingSpec(
            input=InputSpec.model_validate({"channels": channels, "height": height, "width": width}),
            extractor=EXTRACTOR,
            gates=[GateSpec(layer=1, file=GATE, sees_snr=sees_snr)],
        )
        manifests = node_manifests(
            layer,
            asking,
            mesh=mesh,
            class_names=class_names,
            holds=held,
            radio=radio,
            server=server,
        )
    except ValidationError as error:
        raise refusal(error) from None
    with written_aside(folder, "shared", "clients") as aside:
        shared, clients = aside / "shared", aside / "clients"
        export_onnx(model.extractor, {INPUT: example_TCHW}, shared / EXTRACTOR)
        save_weights(model.extractor, shared / EXTRACTOR_WEIGHTS)
        for name in manifests:
            (clients / name).mkdir()
        is_personal, written = isinstance(gate, PersonalGates), None
        for client, each in enumerate(gates_of(gate)):
            place = folder_of_client(aside, client) if is_personal else shared
            save_weights(each, place / GATE_WEIGHTS)
            export_gate(each, payload_T, len(experts), place / GATE, pooling, sees_snr=sees_snr, like=written)
            written = place / GATE
        traced: Path | None = None
        hashes = []
        for expert, (network, nodes) in enumerate(zip(experts, nodes_of, strict=True)):
            first, *others = (folder_of_client(aside, node) for node in nodes)
            save_weights(network, first / expert_file(expert, "safetensors"))
            export_onnx(network, {INPUT: payload_T}, first / expert_file(expert), like=traced)
            traced = first / expert_file(expert)
            hashes.append(sha256_of(traced)[:16])
            for other in others:
                share(traced, other / expert_file(expert))
        model_hash = model_hash_of(aside, manifests[SERVER if server else "00"])
        for name, manifest in manifests.items():
            if manifest.asks is not None:
                for file in (EXTRACTOR,) if is_personal else (EXTRACTOR, GATE):
                    share(shared / file, clients / name / file)
            digests = {file: sha256_of(clients / name / file) for file in manifest.files}
            known = {
                "model_hash": model_hash,
                "layers": [layer.model_copy(update={"hashes": hashes})],
                "sha256": digests,
            }
            write_manifest(clients / name, manifest.model_copy(update=known))


def _check_example(example_TCHW: Tensor) -> None:
    refuse_type("example_TCHW", example_TCHW, Tensor)
    if example_TCHW.ndim != 4 or not len(example_TCHW):
        expected = "(T, C, H, W), one image at least"
        raise InvalidInputError("shape of example_TCHW", tuple(example_TCHW.shape), expected)
    if example_TCHW.dtype != torch.float32:
        raise InvalidInputError("dtype of example_TCHW", str(example_TCHW.dtype), "torch.float32")


def _check_gates(gate: nn.Module, clients: int, server: bool) -> None:
    if isinstance(gate, PersonalGates) and (server or len(gate.gates) != clients):
        expected = f"one for each of {clients} clients" if not server else "one gate: only the server asks"
        raise InvalidInputError("number of personal gates", len(gate.gates), expected)


def _checked_holds(holds: Sequence[Sequence[int]]) -> list[list[int]]:
    try:
        return [[operator.index(label) for label in of_client] for of_client in holds]
    except TypeError:
        raise InvalidInputError("holds", holds, "for each client a list of class numbers") from None
