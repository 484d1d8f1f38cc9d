"""Write a trained mixture to a run folder: safetensors for training, ONNX for serving, and a check that both
give the same outputs.

Shape suffixes: T items, C channels, H height, W width, E experts.
"""

import hashlib
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from airmoe.errors import InvalidInputError, RunFolderError
from airmoe.manifest import (
    EXPERT_ONNX,
    EXTRACTOR_ONNX,
    GATE_ONNX,
    INPUT,
    SNR_INPUT,
    InputSpec,
    Manifest,
    RadioSpec,
    write_manifest,
)
from airmoe.nn import MixtureOfExperts, NoisyTopK, Pooling, pool
from airmoe.runfolder import SERVER, sha256_of

TOLERANCE = 1e-4
"""Largest difference between PyTorch and ONNX Runtime that an export may show."""


class _Scores(nn.Module):
    """A gate as the mesh runs it: payloads and, if it sees them, SNRs to scores."""

    def __init__(self, gate: nn.Module, pooling: Pooling) -> None:
        super().__init__()
        self.gate, self.pooling = gate, pooling

    def forward(self, payload_T: Tensor, snr_db_TE: Tensor | None = None) -> Tensor:
        return self.gate(pool(payload_T, self.pooling), snr_db_TE).scores_TE  # type: ignore[no-any-return]


def export_onnx(module: nn.Module, inputs: Mapping[str, Tensor], path: Path) -> None:
    """Write a module as ONNX with a free batch axis, and check its outputs on these inputs.

    Args:
        module: takes the inputs in their order, and gives one tensor.
        inputs: name and example of each, first axis T.
        path: the file to write.

    Raises:
        RunFolderError: ONNX Runtime and PyTorch differ by more than `TOLERANCE`, or the network came out for
            this number of items only.
    """
    module, examples = module.eval(), tuple(inputs.values())
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it lists every torchvision operator it lacks
    items = torch.export.Dim("T")
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        torch.onnx.export(
            module,
            examples,
            path,
            input_names=list(inputs),
            output_names=["output"],
            dynamic_shapes=tuple({0: items} for _ in examples),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        expected = module(*examples).numpy()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    if fixed := [each.name for each in session.get_inputs() if isinstance(each.shape[0], int)]:
        raise RunFolderError(
            f"{path.name}: the number of items of {', '.join(fixed)} came out fixed; expected a free one"
        )
    (actual,) = session.run(None, {name: example.numpy() for name, example in inputs.items()})
    difference = float(np.abs(actual - expected).max())
    if not difference <= TOLERANCE:
        raise RunFolderError(
            f"{path.name}: ONNX and PyTorch outputs differ by {difference}; expected at most {TOLERANCE}"
        )


def export_gate(
    gate: nn.Module, payload_T: Tensor, experts: int, path: Path, pooling: Pooling = "vector"
) -> None:
    """Write a gate as the mesh runs it: payloads of any shape and, if it sees them, SNRs to scores (T, E).

    Args:
        gate: says by a bool ``sees_snr`` whether it looks at the links; set to False on a gate that was
            trained blind, it is served as over good links.
        payload_T: a few real payloads, for the check.
        experts: E.
        path: the file to write.
        pooling: what a payload is.

    Raises:
        InvalidInputError: the gate does not say whether it sees the SNR.
        RunFolderError: as `export_onnx`.
    """
    inputs = {INPUT: payload_T}
    if _sees_snr(gate):
        snr_db = torch.linspace(-20, 40, len(payload_T) * experts)
        snr_db[0], snr_db[-1] = -torch.inf, torch.inf  # links without gain and without noise
        inputs[SNR_INPUT] = snr_db.reshape(-1, experts)
    export_onnx(_Scores(gate, pooling), inputs, path)


def export_run(
    folder: Path,
    model: MixtureOfExperts,
    example_TCHW: Tensor,
    *,
    mesh: str,
    class_names: tuple[str, ...],
    holds: list[list[int]],
    radio: RadioSpec,
    server: bool = False,
) -> None:
    """Write ``shared/`` and ``clients/`` of a run.

    Of a gate that is noisy while training, the gate itself is written.

    Args:
        folder: the run folder.
        model: the trained mixture, expert e of client e; its gate says by a bool ``sees_snr`` whether it
            looks at the links.
        example_TCHW: a few real images, float32 in [0, 1], for the check.
        mesh: name of the mesh.
        class_names: of all classes.
        holds: for each client the classes in its data.
        radio: the simulated radio.
        server: whether ``clients/server`` asks and the clients serve their experts alone; otherwise every
            client asks for itself.

    Raises:
        InvalidInputError: the gate does not say whether it sees the SNR.
        RunFolderError: an exported network gives other outputs than PyTorch.
    """
    gate: nn.Module = model.layer.gate.gate if isinstance(model.layer.gate, NoisyTopK) else model.layer.gate
    sees_snr, experts = _sees_snr(gate), len(model.layer.experts)
    shared = folder / "shared"
    shared.mkdir(parents=True)
    with torch.no_grad():
        payload_T = model.extractor.eval()(example_TCHW)
    export_onnx(model.extractor, {INPUT: example_TCHW}, shared / "extractor.onnx")
    export_gate(gate, payload_T, experts, shared / "gate.onnx", model.layer.pooling)
    digest = hashlib.sha256()
    for name, module in (("extractor", model.extractor), ("gate", gate)):
        save_file(module.state_dict(), shared / f"{name}.safetensors")
        digest.update((shared / f"{name}.safetensors").read_bytes())
    channels, height, width = example_TCHW.shape[1:]

    def write(client_folder: Path, client: int, files: tuple[str, ...]) -> None:
        expert = client if EXPERT_ONNX in files else None
        manifest = Manifest(
            mesh=mesh,
            model_hash=digest.hexdigest()[:16],
            client=client,
            expert=expert,
            experts=experts,
            payload=list(payload_T.shape[1:]),
            gate_sees_snr=sees_snr,
            classes=list(class_names),
            holds=[] if expert is None else holds[client],
            input=InputSpec(channels=channels, height=height, width=width),
            radio=radio,
            sha256={name: sha256_of(client_folder / name) for name in files},
        )
        write_manifest(client_folder, manifest)

    asking = EXTRACTOR_ONNX, GATE_ONNX
    for client, expert in enumerate(model.layer.experts):
        client_folder = folder / "clients" / f"{client:02d}"
        client_folder.mkdir(parents=True)
        save_file(expert.state_dict(), client_folder / "expert.safetensors")
        export_onnx(expert, {INPUT: payload_T}, client_folder / EXPERT_ONNX)
        write(client_folder, client, (EXPERT_ONNX,) if server else (EXPERT_ONNX, *asking))
    if server:
        server_folder = folder / "clients" / SERVER
        server_folder.mkdir()
        write(server_folder, experts, asking)


def _sees_snr(gate: nn.Module) -> bool:
    sees_snr = getattr(gate, "sees_snr", None)
    if not isinstance(sees_snr, bool):
        expected = "one that says by a bool `sees_snr` whether it looks at the links"
        raise InvalidInputError("gate", type(gate).__name__, expected)
    return sees_snr
