"""Write a trained mixture to a run folder: safetensors for training, ONNX for serving, and a check that both
give the same outputs.

Shape suffixes: T items, C channels, H height, W width, E experts.
"""

import logging
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from airmoe.errors import InvalidInputError, RunFolderError
from airmoe.files import AnyPath, as_path, named_in_errors
from airmoe.manifest import (
    INPUT,
    SNR_INPUT,
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
from airmoe.nn import MixtureOfExperts, NoisyTopK, Pooling, pool
from airmoe.runfolder import EXTRACTOR, GATE, SERVER, SHARED_WEIGHTS, expert_file, model_hash_of, sha256_of

TOLERANCE = 1e-4
"""Largest difference between PyTorch and ONNX Runtime that an export may show."""

INT64 = onnx.TensorProto.INT64
"""The type of shapes and axes in a graph."""


class _Scores(nn.Module):
    """A gate as the mesh runs it: payloads and, if it sees them, SNRs to scores."""

    def __init__(self, gate: nn.Module, pooling: Pooling) -> None:
        super().__init__()
        self.gate, self.pooling = gate, pooling

    def forward(self, payload_T: Tensor, snr_db_TE: Tensor | None = None) -> Tensor:
        return self.gate(pool(payload_T, self.pooling), snr_db_TE).scores_TE  # type: ignore[no-any-return]


def export_onnx(
    module: nn.Module, inputs: Mapping[str, Tensor], path: AnyPath, *, like: AnyPath | None = None
) -> None:
    """Write a module as ONNX with a free batch axis, and check its outputs on these inputs.

    Args:
        module: takes the inputs in their order, and gives one tensor.
        inputs: name and example of each, first axis T.
        path: the file to write.
        like: the file of a network of the same form. Where its graph holds the weights as they are, the
            graph is written again with this module's weights, in a hundredth of the time.

    Raises:
        RunFolderError: ONNX Runtime and PyTorch differ by more than `TOLERANCE`, or the network takes only
            this number of items.
    """
    module, path = module.eval(), as_path(path)
    like = None if like is None else as_path(like)
    with named_in_errors(path):
        written = like is not None and _written_like(like, module, path)
        if not written or _difference(module, inputs, path) > TOLERANCE:
            _trace(module, inputs, path)
    difference = _difference(module, inputs, path)
    if not difference <= TOLERANCE:
        raise RunFolderError(
            f"{path.name}: ONNX and PyTorch outputs differ by {difference}; expected at most {TOLERANCE}"
        )


def _trace(module: nn.Module, inputs: Mapping[str, Tensor], path: Path) -> None:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it lists every torchvision operator it lacks
    items = torch.export.Dim("T")
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        torch.onnx.export(
            module,
            tuple(inputs.values()),
            path,
            input_names=list(inputs),
            output_names=["output"],
            dynamic_shapes=tuple({0: items} for _ in inputs),
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def _written_like(like: Path, module: nn.Module, path: Path) -> bool:
    """Write a graph with a module's weights; return False if it holds others, or values made from them."""
    network, weights = onnx.load(like), module.state_dict()
    held = {values.name: values for values in network.graph.initializer}
    shapes = {name: list(values.dims) for name, values in held.items() if values.data_type != INT64}
    if shapes != {name: list(weight.shape) for name, weight in weights.items()}:
        return False
    for name, weight in weights.items():
        held[name].CopyFrom(onnx.numpy_helper.from_array(weight.numpy(force=True), name))
    onnx.save(network, path)
    return True


def _difference(module: nn.Module, inputs: Mapping[str, Tensor], path: Path) -> float:
    """Return the largest difference of a file's outputs from PyTorch's; refuse a fixed batch axis."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    if fixed := [each.name for each in session.get_inputs() if isinstance(each.shape[0], int)]:
        raise RunFolderError(
            f"{path.name}: the number of items of {', '.join(fixed)} came out fixed; expected a free one"
        )
    with torch.no_grad():
        expected = module(*inputs.values()).numpy()
    (actual,) = session.run(None, {name: example.numpy() for name, example in inputs.items()})
    return float(np.abs(actual - expected).max())


def export_gate(
    gate: nn.Module,
    payload_T: Tensor,
    experts: int,
    path: Path,
    pooling: Pooling = "vector",
    *,
    sees_snr: bool | None = None,
) -> None:
    """Write a gate as the mesh runs it: payloads of any shape and, if it sees them, SNRs to scores (T, E).

    Args:
        gate: says by a bool ``sees_snr`` whether it looks at the links.
        payload_T: a few real payloads, for the check.
        experts: E.
        path: the file to write.
        pooling: what a payload is.
        sees_snr: False for a gate that was trained blind: it takes payloads alone and assumes good links.
            Default what the gate says.

    Raises:
        InvalidInputError: the gate does not say whether it sees the SNR, or is to see what it cannot.
        RunFolderError: as `export_onnx`.
    """
    inputs = {INPUT: payload_T}
    if _sees_snr(gate, sees_snr):
        snr_db = torch.linspace(-20, 40, len(payload_T) * experts)
        snr_db[0], snr_db[-1] = -torch.inf, torch.inf  # links without gain and without noise
        inputs[SNR_INPUT] = snr_db.reshape(-1, experts)
    export_onnx(_Scores(gate, pooling), inputs, path)


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

    A noisy gate is written without its noise. An expert's safetensors are written once, to the folder of the
    first node that serves it.

    Args:
        folder: the run folder.
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
        InvalidInputError: the gate does not say whether it sees the SNR, or ``placement`` does not fit.
        RunFolderError: an exported network gives other outputs than PyTorch.
    """
    gate: nn.Module = model.layer.gate.gate if isinstance(model.layer.gate, NoisyTopK) else model.layer.gate
    sees_snr, clients = _sees_snr(gate, gate_sees_snr), len(holds)
    nodes_of = _checked_placement(placement, len(model.layer.experts), clients, server)
    folder = as_path(folder)
    shared = folder / "shared"
    shared.mkdir(parents=True)
    with torch.no_grad():
        payload_T = model.extractor.eval()(example_TCHW)
        output_T = model.layer.experts[0].eval()(payload_T)
    export_onnx(model.extractor, {INPUT: example_TCHW}, shared / EXTRACTOR)
    export_gate(gate, payload_T, len(nodes_of), shared / GATE, model.layer.pooling, sees_snr=sees_snr)
    for name, module in zip(SHARED_WEIGHTS, (model.extractor, gate), strict=True):
        save_file(module.state_dict(), shared / name)
    model_hash = model_hash_of(folder)
    channels, height, width = example_TCHW.shape[1:]
    layer = LayerSpec(
        layer=1,
        payload=list(payload_T.shape[1:]),
        output=OutputSpec(kind=output, shape=list(output_T.shape[1:])),
        placement=nodes_of,
    )
    asking = AskingSpec(
        input=InputSpec.model_validate({"channels": channels, "height": height, "width": width}),
        extractor=EXTRACTOR,
        gates=[GateSpec(layer=1, file=GATE, sees_snr=sees_snr)],
    )

    def write(node: int, client_folder: Path, holds: Sequence[int], asks: AskingSpec | None) -> None:
        experts = layer.experts_on(node)
        serves = [ExpertSpec(layer=1, expert=expert, file=expert_file(expert)) for expert in experts]
        files = [expert.file for expert in serves] + ([] if asks is None else [EXTRACTOR, GATE])
        manifest = Manifest(
            mesh=mesh,
            model_hash=model_hash,
            node=node,
            nodes=clients + server,
            layers=[layer],
            serves=serves,
            asks=asks,
            classes=list(class_names),
            holds=list(holds),
            radio=radio,
            sha256={name: sha256_of(client_folder / name) for name in files},
        )
        write_manifest(client_folder, manifest)

    folders = [folder / "clients" / f"{client:02d}" for client in range(clients)]
    for client_folder in folders + [folder / "clients" / SERVER] * server:
        client_folder.mkdir(parents=True)
    traced: Path | None = None
    for expert, (network, nodes) in enumerate(zip(model.layer.experts, nodes_of, strict=True)):
        first, name = folders[nodes[0]], expert_file(expert)
        save_file(network.state_dict(), first / expert_file(expert, "safetensors"))
        export_onnx(network, {INPUT: payload_T}, first / name, like=traced)
        traced = first / name
        for node in nodes[1:]:
            _share(first / name, folders[node] / name)
    askers = [folder / "clients" / SERVER] if server else folders
    for asker in askers:
        for name in (EXTRACTOR, GATE):
            _share(shared / name, asker / name)
    for client, client_folder in enumerate(folders):
        write(client, client_folder, holds[client], None if server else asking)
    if server:
        write(clients, folder / "clients" / SERVER, [], asking)


def _checked_placement(
    placement: Sequence[Sequence[int]] | None, experts: int, clients: int, server: bool
) -> list[list[int]]:
    """Return the nodes of each expert, ascending."""
    nodes_of = [[expert] for expert in range(experts)]
    if placement is not None:
        nodes_of = [sorted(set(nodes)) for nodes in placement]
    used = {node for nodes in nodes_of for node in nodes}
    if len(nodes_of) != experts or not all(nodes_of) or not used <= set(range(clients)):
        expected = f"for each of {experts} experts one or more of the {clients} clients"
        raise InvalidInputError("placement", nodes_of, expected)
    if server and len(used) < clients:
        expected = f"an expert at each of the {clients} clients, of which none asks"
        raise InvalidInputError("placement", nodes_of, expected)
    return nodes_of


def _share(source: Path, target: Path) -> None:
    """Make ``target`` the same file, or a copy where the file system has no hard links."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def _sees_snr(gate: nn.Module, told: bool | None = None) -> bool:
    """Return whether a gate is to see the SNR: ``told``, or what the gate says itself."""
    sees_snr = getattr(gate, "sees_snr", None)
    if not isinstance(sees_snr, bool):
        expected = "one that says by a bool `sees_snr` whether it looks at the links"
        raise InvalidInputError("gate", type(gate).__name__, expected)
    if told and not sees_snr:
        raise InvalidInputError("gate_sees_snr", told, f"False: {type(gate).__name__} cannot see the links")
    return sees_snr if told is None else told
